#!/usr/bin/env bash
# Shows the whole of it on Kubernetes: `./justw demo --cluster [--keep]`. A cluster of its own, both
# charts, the sample with several agents as it stands in deploy/samples, an agent that stores and
# finds, a pod that goes, a CronJob that compacts, and what `kubectl memory` says of it all.
# --keep leaves the cluster to play with; otherwise nothing is left running.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}
say() { printf 'demo: %s\n' "$*" >&2; }
# shellcheck source=e2e/common.sh
source e2e/common.sh

keep=false
for argument in "$@"; do
    case $argument in
        --keep) keep=true ;;
        *) say "unknown argument: $argument; there is --keep"; exit 64 ;;
    esac
done

# step TEXT: what comes next.
step() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }
# run COMMAND...: shows a command and runs it.
run() {
    printf '$ %s\n' "${*//$root\//}"
    "$@"
}

finish() {
    local status=$?
    trap - EXIT
    if $keep && [ $status = 0 ]; then
        say "the cluster is still there: eval \"\$(./justw cluster --name $CLUSTER_NAME up)\"; kubectl config set-context --current --namespace demo"
        say "end it with: ./justw cluster --name $CLUSTER_NAME down"
    else
        ./justw cluster down >&2 || status=1
    fi
    exit $status
}

[ "$(id -u)" = 0 ] || { say "a cluster needs root: sudo -E ./justw demo --cluster"; exit 1; }
export CLUSTER_NAME=demo
if ./justw cluster status >/dev/null 2>&1; then
    say "a cluster 'demo' runs already; end it with: ./justw cluster --name demo down"
    exit 1
fi

cargo build --release --quiet -p llm-memory --bin llm-memory
cargo build --release --quiet -p llm-memory-operator --bins
build_images "$target/release" >&2
find_helm
trap finish EXIT

step "A cluster: API server, scheduler, kubelet and the rest, on this machine"
own_cluster demo
load_images
PATH=$target/release:$PATH # kubectl finds kubectl-memory
run kubectl get nodes

step "The operator, by its charts"
install_charts localhost | grep -E '^(NAME|STATUS)'
run kubectl -n llm-memory-system get deployments

step "A store, and three agents with rights of their own: deploy/samples/agents.yaml"
kubectl create namespace demo >/dev/null
kubectl label namespace demo pod-security.kubernetes.io/enforce=restricted >/dev/null
kubectl config set-context --current --namespace demo >/dev/null
begun=$SECONDS
# The sample as it is, but for the image of the agent.
sed 's|localhost/your-agent:latest|localhost/llm-memory-e2e-agent:1|' deploy/samples/agents.yaml |
    kubectl apply -f -
run kubectl wait --for=condition=Ready memorystore/team-memory --timeout=2m
echo "ready after $((SECONDS - begun)) s"
run kubectl wait --for=condition=Ready pod/coder --timeout=2m
run kubectl get memorystores -o wide

# agent ARGUMENT...: the agent in the pod `coder`, with the token of its ServiceAccount.
agent() {
    kubectl exec coder -- python3 /opt/agent/agent.py http://team-memory:3000/mcp \
        /var/run/secrets/memory/token --project checkout-service "$@"
}
# hits: what was found, with scores; nothing is a failure.
hits() {
    jq -er 'if .found.total > 0 then .found.items[] | "  \(.score * 1000 | round / 1000)  \(.title)"
        else error("nothing was found: \(.)") end'
}

step "The agent in the pod coder stores what it learns, over MCP, by its ServiceAccount"
for fact in 'Payments above 500 EUR go through the slow queue' \
    'The checkout tests need REDIS_URL to be set' \
    'Refunds are idempotent by the header Idempotency-Key' \
    'The staging cluster is rebuilt every Monday at 6'; do
    agent --text "$fact" >/dev/null
    echo "  stored: $fact"
done
step "... and finds it again: \"which queue do large payments use\""
agent --find 'which queue do large payments use' | hits

step "Without a token nobody gets in"
answer=$(kubectl exec coder -- python3 /opt/agent/agent.py http://team-memory:3000/mcp \
    --find anything 2>/dev/null || true)
jq -e 'select(.status == 401)' <<<"$answer"

step "The server is killed in the middle of things, and the memory is still there"
run ./justw cluster exec pkill -9 -x llm-memory
run kubectl wait pod/team-memory-0 --timeout=1m \
    --for='jsonpath={.status.containerStatuses[0].restartCount}=1'
run kubectl wait --for=condition=Ready pod/team-memory-0 --timeout=2m
agent --find 'refund header' | hits

step "A CronJob compacts: every minute, for now"
run kubectl patch memorystore team-memory --type merge \
    --patch '{"spec":{"maintenance":{"compaction":{"schedule":"* * * * *"}}}}'
run kubectl wait cronjob/team-memory-compaction --timeout=3m \
    --for='jsonpath={.status.lastSuccessfulTime}'
job=$(kubectl get jobs -o json | jq -r '[.items[]
    | select(.metadata.ownerReferences[0].name == "team-memory-compaction" and .status.succeeded == 1)
    ][0].metadata.name')
run kubectl logs "job/$job" --tail 5

step "And a person looks after it"
run kubectl memory verify team-memory
run kubectl memory list --all-namespaces
run kubectl memory status team-memory
