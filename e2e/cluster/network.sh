# shellcheck shell=bash
# A cluster's network namespace and its one link to the host. Sourced by cluster.sh.
# shellcheck disable=SC2154 # settings are shared with cluster.sh

# free_subnet: the first three bytes of a network that no interface of this machine uses yet.
free_subnet() {
    local used n
    used=$(ip -4 -o address show)
    for n in $(seq 0 255); do
        case $used in *" 10.89.$n."*) ;; *) echo "10.89.$n"; return ;; esac
    done
    fail "no network 10.89.N.0/30 is free on this machine"
}

network_up() {
    ip netns add "$GROUP"
    ip link add "$LINK" type veth peer name eth0 netns "$GROUP"
    ip address add "$HOST/30" dev "$LINK"
    ip link set "$LINK" up
    ip -n "$GROUP" link set lo up
    ip -n "$GROUP" address add "$NODE/30" dev eth0
    ip -n "$GROUP" link set eth0 up
    # Service addresses are rewritten only after a route was found, so there must be a default
    # one; it leads into a bridge without ports, and nothing in the cluster reaches the outside.
    ip -n "$GROUP" link add nowhere type bridge
    ip -n "$GROUP" link set nowhere up
    ip -n "$GROUP" route add default dev nowhere
}

network_down() {
    if [ -e "/run/netns/$GROUP" ]; then ip netns delete "$GROUP"; fi
    # The kernel removes the link with its other end, but in its own time.
    if ip link show "$LINK" >/dev/null 2>&1; then ip link delete "$LINK" 2>/dev/null || true; fi
}
