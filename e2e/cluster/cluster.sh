#!/usr/bin/env bash
# A real one-node Kubernetes cluster on this machine, apart from the rest of it. See README.md,
# or `cluster.sh help`.
set -euo pipefail
# shellcheck source=e2e/cluster/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=e2e/cluster/network.sh
source "$here/network.sh"
# shellcheck source=e2e/cluster/pki.sh
source "$here/pki.sh"
# shellcheck source=e2e/cluster/processes.sh
source "$here/processes.sh"
# shellcheck source=e2e/cluster/start.sh
source "$here/start.sh"

usage() {
    cat <<'TEXT'
./justw cluster [--name NAME] [--subnet A.B.C] COMMAND

  up                  starts the cluster, waits until pods can run, and prints how to use it
  down                ends it and removes all of it but the compiled programs
  status              what runs, in which version, and where its KUBECONFIG is
  load IMAGE|FILE...  brings images of buildah, or archives of images, into the cluster
  restart COMPONENT   kills a component (kubelet, kube-apiserver, ...) and waits for its successor
  stop COMPONENT      kills a component and keeps it down, until `start`
  start COMPONENT     starts it again
  kubectl ARGUMENT... runs kubectl against the cluster
  exec COMMAND...     runs a command on the node: in its network, ended by `down`
  logs                the folder with the log of each component and the audit log
  build [NAME...]     compiles the programs: those a cluster needs, and helm and the like

--name (default e2e) and --subnet (default: the first free 10.89.N) tell clusters apart.
TEXT
}

name=${CLUSTER_NAME:-e2e}
subnet=${CLUSTER_SUBNET:-}
while :; do
    case ${1:-} in
        --name) name=${2:?--name needs a name}; shift 2 ;;
        --subnet) subnet=${2:?--subnet needs the first three bytes of a network}; shift 2 ;;
        *) break ;;
    esac
done
command=${1:-help}
[ $# -eq 0 ] || shift

[[ $name =~ ^[a-z][a-z0-9-]{0,9}$ ]] ||
    fail "--name $name: use up to 10 lower-case letters, digits and dashes, beginning with a letter"
[[ -z $subnet || $subnet =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] ||
    fail "--subnet $subnet: give the first three bytes of a network, like 10.89.7"

state=$cache/cluster/$name
GROUP=memory-$name # the network namespace and the cgroups
LINK=mem-$name     # the host's end of the link
[ ! -e "$state/subnet" ] || subnet=$(cat "$state/subnet")
HOST=$subnet.1
NODE=$subnet.2
PATH=$(tool_path)$PATH
export PATH state NODE GROUP here

need_root() { [ "$(id -u)" = 0 ] || fail "namespaces and mounts need root: sudo -E ./justw cluster $command"; }
need_running() { running || fail "cluster '$name' does not run; ./justw cluster --name $name up starts it"; }

# One command at a time may change a cluster. Nothing started here inherits the lock.
lock() {
    mkdir -p "$cache/cluster"
    exec 9>"$cache/cluster/$name.lock"
    flock -w 600 9 || fail "another command has held cluster '$name' for 10 minutes"
}

status() {
    running || { echo "cluster '$name' does not run"; return 1; }
    local component pid
    for component in $COMPONENTS; do
        pid=$(cat "$state/run/$component.pid" 2>/dev/null) || pid=-
        printf '%-24s %-8s %s\n' "$component" \
            "$([ "$pid" = - ] && echo down || echo running)" "$(version_of "$component")"
    done
    echo
    kubectl --kubeconfig "$state/kubeconfig" get nodes -o wide || true
    echo
    echo "API server https://$NODE:6443; from inside, this host is $HOST"
    settings
}

# settings: what a shell needs to use the cluster, for `eval`. PATH brings kubectl, helm and ctr.
settings() {
    echo "export KUBECONFIG=$state/kubeconfig"
    echo "export PATH=$(tool_path)$(dirname "$(command -v kubectl)"):\$PATH"
}

version_of() {
    case $1 in
        kube-* | kubelet | coredns | kwok) "$1" --version 2>/dev/null | grep -o 'v\?[0-9]\+\.[0-9]\+\.[0-9]\+' | head -1 ;;
        etcd | containerd) "$1" --version | grep -o 'v\?[0-9]\+\.[0-9]\+\.[0-9]\+' | head -1 ;;
    esac
}

# load IMAGE|FILE...: STORAGE is buildah's storage driver, as for `./justw image`.
load() {
    [ $# -gt 0 ] || fail "load: name an image that buildah has, or a file"
    local image file said
    for image in "$@"; do
        file=$image
        if ! [ -f "$image" ]; then
            file=$state/image.tar
            rm -f "$file"
            buildah --storage-driver "${STORAGE:-vfs}" push --quiet "$image" "docker-archive:$file:$image" ||
                fail "buildah has no image $image (storage driver ${STORAGE:-vfs}; STORAGE names another)"
        fi
        said=$(ctr --address "$state/containerd.sock" --namespace k8s.io images import --local "$file" 2>&1) ||
            fail "containerd did not take $image: $said"
        rm -f "$state/image.tar"
    done
}

case $command in
    up) need_root; lock; up ;;
    down) need_root; lock; down ;;
    status) status ;;
    load) need_root; need_running; lock; load "$@" ;;
    restart | stop | start) need_root; need_running; "$command"_component "${1:?name a component: $COMPONENTS}" ;;
    exec) need_root; need_running; inside env --chdir="$PWD" "$@" ;;
    kubectl) need_running; exec kubectl --kubeconfig "$state/kubeconfig" "$@" ;;
    logs) echo "$state/log" ;;
    build) exec "$here/build.sh" "$@" ;;
    help | --help | -h) usage ;;
    *) usage >&2; fail "unknown command: $command" ;;
esac
