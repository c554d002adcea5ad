#!/usr/bin/env bash
# Tests on a real cluster: `./justw e2e [FILTER]`, such as 'binary(store)' in nextest's words, and
# `./justw e2e chaos|scale [FLAG...]`.
#
# With KUBECONFIG set, that cluster is used: it must have the images (E2E_REGISTRY names where
# they were pushed to, that of e2e/images among them, and both of ours also with the tag `other`)
# and is left as it is but for the operator;
# tests that break a cluster fail there, and tests of Prometheus' and cert-manager's resources where
# it does not know these. Otherwise a cluster of its own is
# started, and ended again in any case. What is known of failures is kept in E2E_EVIDENCE.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}
export E2E_EVIDENCE=${E2E_EVIDENCE:-${TMPDIR:-/tmp}/llm-memory-e2e}
# A failure says what was seen; a way through the runtime's functions would bury it.
export RUST_LIB_BACKTRACE=0
say() { printf 'e2e: %s\n' "$*" >&2; }
# shellcheck source=e2e/common.sh
source e2e/common.sh

[ -n "${KUBECONFIG:-}" ] || [ "$(id -u)" = 0 ] ||
    { say "a cluster of its own needs root: sudo -E ./justw e2e, or set KUBECONFIG"; exit 1; }
# One run at a time: two would share a cluster, and the first to end would end it for both.
if [ -z "${KUBECONFIG:-}${E2E_LOCKED:-}" ]; then
    lock=$(source e2e/cluster/common.sh && mkdir -p "$cache" && echo "$cache/e2e.lock")
    flock --nonblock "$lock" true || say "another run is under way: this one waits for its end"
    exec env E2E_LOCKED=1 flock --close "$lock" e2e/run.sh "$@"
fi
say "building programs and images"
cargo build --workspace --all-targets --quiet
build_images "$target/debug"
if [ "${1:-}" = scale ] && [ -z "${LLM_MEMORY_OPERATOR:-}" ]; then
    # What is measured is the program as it is released.
    cargo build --release --quiet -p llm-memory-operator
    export LLM_MEMORY_OPERATOR=$target/release/llm-memory-operator
fi
find_helm

# Keeps what is known when something failed, and ends the cluster in any case.
finish() {
    local status=$?
    trap - EXIT
    if [ $status != 0 ]; then
        mkdir -p "$E2E_EVIDENCE"
        cp -r "$(./justw cluster logs)" "$E2E_EVIDENCE/cluster-log" || true
        for what in 'get pods,memorystores -A -o wide' 'get events -A' \
            'logs -n llm-memory-system deployment/llm-memory-operator --tail=2000'; do
            # shellcheck disable=SC2086 # words of a command
            kubectl $what || true
        done >"$E2E_EVIDENCE/cluster.txt" 2>&1
        say "failed; logs, events and objects are in $E2E_EVIDENCE"
    fi
    ./justw cluster down >&2 || true
    exit $status
}

if [ -z "${KUBECONFIG:-}" ]; then
    # What an earlier run left would be read as what this one saw.
    rm -rf "$E2E_EVIDENCE"
    # Named before the trap, which ends a cluster by its name.
    export CLUSTER_NAME=${CLUSTER_NAME:-e2e-tests}
    trap finish EXIT
    # A run that was killed may have left it, with an operator of its own.
    ./justw cluster down >&2
    own_cluster e2e-tests
    load_images
    for image in llm-memory llm-memory-operator; do
        # The same under another name, for tests of updates.
        buildah --storage-driver vfs tag "localhost/$image:$version" "localhost/$image:other"
        ./justw cluster load "localhost/$image:other" >&2
    done
    export E2E_CLUSTER="$root/justw cluster"
    E2E_DEFINITIONS=$(e2e/definitions.sh)
    export E2E_DEFINITIONS
    registry=localhost
else
    registry=${E2E_REGISTRY:-localhost}
    export E2E_OTHER_IMAGE=${E2E_OTHER_IMAGE:-$registry/llm-memory:other}
    export E2E_AGENT_IMAGE=${E2E_AGENT_IMAGE:-$registry/llm-memory-e2e-agent:1}
fi

case ${1:-} in
    chaos | scale)
        program=$1
        shift
        # Pods that kwok plays have no network; with a policy for each of a thousand stores, what
        # enforces them would take the time that is measured.
        [ -z "${E2E_CLUSTER:-}" ] || ./justw cluster stop kube-router >&2
        export LLM_MEMORY_OPERATOR=${LLM_MEMORY_OPERATOR:-$target/debug/llm-memory-operator}
        "$target/debug/$program" --output "$target/$program" "$@"
        exit
        ;;
esac

say "installing the charts"
install_charts "$registry" >&2
helm test llm-memory-operator --namespace llm-memory-system >&2

say "running the tests"
export KUBECTL_MEMORY=${KUBECTL_MEMORY:-$target/debug/kubectl-memory}
# All of the workspace, as it was built above: with the features of one crate alone, everything
# would compile anew.
filter='package(llm-memory-e2e)'
[ -z "${1:-}" ] || filter="$filter and ($1)"
cargo nextest run --workspace --all-targets --filterset "$filter"
say "all passed"
