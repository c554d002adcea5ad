/* Holds a pod's namespaces until it is told to stop, and reaps what its containers leave. */
#include <signal.h>
#include <unistd.h>

static void stop(int signal_number) {
    (void)signal_number;
    _exit(0);
}

int main(void) {
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    signal(SIGCHLD, SIG_IGN); /* the kernel reaps */
    for (;;)
        pause();
}
