# shellcheck shell=bash
# Starts a cluster: settings, namespaces, processes, and the waits until pods can run. Sourced by
# cluster.sh.
# shellcheck disable=SC2034,SC2154 # settings are shared with cluster.sh

# render FOLDER FILE...: copies settings into the state folder, with this cluster's values.
render() {
    local folder=$1 file
    shift
    mkdir -p "$folder"
    for file in "$@"; do
        sed -e "s|@STATE@|$state|g" -e "s|@NODE@|$NODE|g" -e "s|@GROUP@|$GROUP|g" "$file" \
            >"$folder/$(basename "$file")"
    done
}

make_folders() {
    local folder parent
    mkdir -p "$state"/{log,run,hold,volumes,containerd}
    : >"$state/made-folders"
    for folder in $PRIVATE_FOLDERS; do
        echo "$folder" >>"$state/private-folders"
        [ ! -d "$folder" ] || continue
        mkdir -p "$folder"
        echo "$folder" >>"$state/made-folders"
    done
    for parent in /sys/fs/cgroup /sys/fs/cgroup/*; do
        # One hierarchy in version 2, one for each controller in version 1.
        if [ -e "$parent/cgroup.procs" ] && mountpoint -q "$parent"; then mkdir -p "$parent/$GROUP"; fi
    done
}

start_processes() {
    local stages
    stages=$(tool_folder kwok)/stages
    # Killing this one process ends everything: the process namespace falls with its first process,
    # mounts and pods' networks with theirs. `ip netns exec` would hide /sys/fs/cgroup.
    STAGES=$stages setsid nsenter --net="/run/netns/$GROUP" \
        unshare --mount --pid --fork --kill-child --mount-proc \
        bash "$here/init.sh" "$state/" >"$state/log/init.log" 2>&1 </dev/null 9>&- &
    echo $! >"$state/parent.pid"
}

kube() { kubectl --kubeconfig "$state/kubeconfig" "$@"; }

node_ready() {
    [ "$(kube get node node1 -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ]
}

# dns_answers: asks the cluster's DNS service over its Service address for its own. No
# byte of the question is a line feed: bash would send what follows it in a datagram of its own.
# shellcheck disable=SC2016 # expanded inside
dns_answers() {
    inside bash -c '
        exec 3<>/dev/udp/10.96.0.10/53
        printf "\x4d\x53\x01\0\0\x01\0\0\0\0\0\0\x08kube-dns\x0bkube-system\x03svc\x07cluster\x05local\0\0\x01\0\x01" >&3
        # Response without error, and one answer.
        answer=$(timeout 1 dd bs=512 count=1 <&3 2>/dev/null | od -An -tx1 -N8 | tr -d " \n")
        [[ $answer =~ ^4d53[89a-f][0-9a-f][0-9a-f]000010001$ ]]'
}

# await_ready: waits for each part in the order of their dependence.
await_ready() {
    wait_until 90 "a ready API server" healthy kube-apiserver || blame kube-apiserver etcd
    kube apply --server-side -f "$state/manifests" >/dev/null
    wait_until 60 "a running containerd" healthy containerd || blame containerd
    load "$(pause_folder)/pause.tar"
    wait_until 90 "a ready node" node_ready || blame kubelet containerd
    wait_until 60 "an answer of DNS" dns_answers || blame coredns kube-proxy
    wait_until 60 "the default service account" kube get serviceaccount default || blame kube-controller-manager
}

# blame COMPONENT...: shows what the likely culprits said last, and fails.
blame() {
    local component
    for component in init "$@"; do
        say "the end of $component.log:"
        tail -n 8 "$state/log/$component.log" >&2 || true
    done
    return 1
}

# give_up: keeps the logs of a start that failed, and removes the rest.
give_up() {
    trap - EXIT
    local kept=$state.failed
    rm -rf "$kept"
    mv "$state/log" "$kept" 2>/dev/null || true
    down || true
    fail "cluster '$name' did not start; logs are in $kept"
}

# need_space: a node with as good as no disk takes no pods, and says so where few look.
need_space() {
    local size free
    read -r size free < <(df --output=size,avail --block-size=1M "$cache" | tail -1)
    [ "$free" -ge 4096 ] && [ $((free * 100)) -ge $((size * 2)) ] ||
        fail "$free MiB of $size are free where $cache lies: free 4 GiB and 2 %, or set JUSTW_CACHE to a folder elsewhere"
}

up() {
    local begun=$SECONDS program
    for program in kubectl jq curl openssl nsenter ip iptables runc sysctl pkill; do
        command -v $program >/dev/null || fail "$program is missing: call this through ./justw cluster, which installs it"
    done
    "$here/build.sh" kubernetes etcd containerd coredns kube-router kwok
    if ! running; then
        need_space
        down # what an interrupted start or a reboot left
        trap give_up EXIT
        [ -n "$subnet" ] || subnet=$(free_subnet)
        HOST=$subnet.1 NODE=$subnet.2
        [ ${#state} -le 70 ] || fail "$state is too long for sockets in it: set JUSTW_CACHE to a shorter folder"
        make_folders
        echo "$subnet" >"$state/subnet"
        make_pki
        render "$state" "$here"/config/{containerd.toml,kubelet.yaml,kube-proxy.yaml,Corefile,audit.yaml,resolv.conf}
        render "$state/cni" "$here/config/pods.conflist"
        render "$state/manifests" "$here"/manifests/*.yaml
        network_up
        start_processes
        say "started '$name', waiting until pods can run"
    fi
    await_ready
    trap - EXIT
    rm -rf "$state.failed"
    say "ready after $((SECONDS - begun)) s. Set these, or: eval \"\$(./justw cluster up)\""
    settings
}
