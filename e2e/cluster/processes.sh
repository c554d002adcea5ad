# shellcheck shell=bash
# A cluster's processes: finding them, killing some or all, and what is left. Sourced by cluster.sh.
# shellcheck disable=SC2034,SC2154 # settings shared with cluster.sh

COMPONENTS="etcd containerd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kube-router coredns kwok volumes-claims volumes-released"

# Folders outside the state folder that programs insist on; hidden behind empty ones inside.
PRIVATE_FOLDERS="/run/containerd /run/kubernetes /var/lib/cni /var/lib/kubelet /var/log/containers"

# is_ours PID: process numbers are used again, so the command line must name our state folder.
is_ours() { tr '\0' ' ' <"/proc/$1/cmdline" | grep -qF "$state/"; } 2>/dev/null

# parent_pid: the process outside the namespaces whose end ends the cluster.
parent_pid() { cat "$state/parent.pid" 2>/dev/null; }

running() {
    local pid
    pid=$(parent_pid) && is_ours "$pid"
}

# init_pid: the first process inside, as numbered outside.
init_pid() {
    local found
    found=$(grep -l "^PPid:[[:space:]]*$(parent_pid)\$" /proc/[0-9]*/status 2>/dev/null | head -1)
    [ -n "$found" ] && basename "$(dirname "$found")"
}

# inside COMMAND...: in the cluster's namespaces.
inside() {
    local init
    init=$(init_pid) || fail "cluster '$name' has no process inside; see $state/log/init.log"
    nsenter --target "$init" --mount --net --pid -- "$@"
}

known_component() {
    case " $COMPONENTS " in *" $1 "*) ;; *) fail "no such component: $1; there are: $COMPONENTS" ;; esac
}

# component_pid COMPONENT: its process, as numbered inside; fails when it is down.
component_pid() { cat "$state/run/$1.pid" 2>/dev/null; }

# healthy COMPONENT: answers, where it can be asked; otherwise runs.
healthy() {
    case $1 in
        kube-apiserver) curl -sf --max-time 2 --cacert "$state/pki/ca.crt" "https://$NODE:6443/readyz" ;;
        kubelet) inside curl -sf --max-time 2 http://127.0.0.1:10248/healthz ;;
        containerd) ctr --address "$state/containerd.sock" --connect-timeout 2s version ;;
        *) component_pid "$1" ;;
    esac
}

replaced() { local now; now=$(component_pid "$1") && [ "$now" != "$2" ]; }
gone() { ! component_pid "$1"; }
kill_component() { inside kill -9 "$1" 2>/dev/null || true; }

restart_component() {
    local old
    known_component "$1"
    old=$(component_pid "$1") || fail "$1 is down; '$0 start $1' starts it"
    kill_component "$old"
    wait_until 60 "the restart of $1" replaced "$1" "$old"
    wait_until 60 "a healthy $1" healthy "$1" || fail "see $state/log/$1.log"
}

stop_component() {
    local old
    known_component "$1"
    touch "$state/hold/$1"
    if old=$(component_pid "$1"); then kill_component "$old"; fi
    wait_until 20 "the end of $1" gone "$1"
}

start_component() {
    known_component "$1"
    rm -f "$state/hold/$1"
    wait_until 60 "a healthy $1" healthy "$1" || fail "see $state/log/$1.log"
}

# ---- The end ---------------------------------------------------------------------------------

group_folders() { find /sys/fs/cgroup -depth -type d -path "*/$GROUP*" 2>/dev/null | grep -E "/$GROUP(/|\$)" || true; }

no_processes() {
    local folder
    for folder in $(group_folders); do
        [ -z "$(cat "$folder/cgroup.procs" 2>/dev/null)" ] || return 1
    done
    [ -z "$(ip netns pids "$GROUP" 2>/dev/null)" ]
}

# end_processes: killing the parent lets the kernel end everything in its process namespace. What
# else is in the network namespace (a cluster whose state folder was removed) is killed by number.
end_processes() {
    local pid
    if running; then kill -9 "$(parent_pid)"; fi
    for pid in $(ip netns pids "$GROUP" 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
    wait_until 30 "the end of all processes" no_processes
}

down() {
    local folder
    end_processes || fail "processes of cluster '$name' do not end; their numbers: $(ip netns pids "$GROUP" | tr '\n' ' ')"
    network_down
    for folder in $(group_folders); do rmdir "$folder" 2>/dev/null || true; done
    # Only what is empty: a kubelet or containerd of the host may use them too.
    if [ -e "$state/made-folders" ]; then
        while read -r folder; do rmdir "$folder" 2>/dev/null || true; done <"$state/made-folders"
    fi
    if [ -e "$state" ]; then rm -rf --one-file-system "$state"; fi
    left_over
}

# left_over: says what is still there after `down`, and fails if anything is.
left_over() {
    local left=()
    [ ! -e "$state" ] || left+=("folder $state")
    [ ! -e "/run/netns/$GROUP" ] || left+=("network namespace $GROUP")
    if ip link show "$LINK" >/dev/null 2>&1; then left+=("link $LINK"); fi
    if grep -qF " $state/" /proc/self/mounts; then left+=("mounts under $state"); fi
    [ -z "$(group_folders)" ] || left+=("cgroups: $(group_folders | tr '\n' ' ')")
    [ ${#left[@]} -eq 0 ] || fail "still there after down: $(printf '%s; ' "${left[@]}")"
}
