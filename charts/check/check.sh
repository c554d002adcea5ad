#!/usr/bin/env bash
# Checks charts, samples and alert rules without a cluster: helm lint, every manifest against the
# schemas of Kubernetes, of Prometheus' operator and of our own resources, promtool's unit tests.
# Called by `./justw charts`. Prints what it finds, and one line when there is nothing.
#
# helm and kubeconform come from PATH, or are those that e2e/cluster pins and compiles; promtool
# comes from PATH, into which ./justw puts it. The schemas are made once from Go modules, which
# `go mod download` fetches and checks.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${JUSTW_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/llm-memory}
kubernetes=k8s.io/kubernetes@v1.36.3
operator=$root/charts/llm-memory-operator
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say() { printf 'charts: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# ---- Programs --------------------------------------------------------------------------------

# program NAME: finds a program, or compiles the one that e2e/cluster/tools/NAME pins.
program() {
    local build=$root/e2e/cluster/build.sh
    command -v "$1" >/dev/null && return
    [ -x "$build" ] || fail "$1 is missing: put it into PATH"
    "$build" "$1"
    # shellcheck source=/dev/null
    PATH=$PATH:$(source "$root/e2e/cluster/common.sh" && tool_folder "$1")
    command -v "$1" >/dev/null || fail "$1 is missing, though e2e/cluster/tools/$1 was compiled"
}
program helm
program kubeconform
command -v promtool >/dev/null || fail "promtool is missing: call this as ./justw charts"

python=python3
"$python" -c 'import yaml' 2>/dev/null || python=/usr/bin/python3
"$python" -c 'import yaml' 2>/dev/null || fail "PyYAML is missing: install python3-yaml"

# ---- Schemas ---------------------------------------------------------------------------------

schemas=$cache/schemas-$({ echo "$kubernetes"; cat "$here/schemas.py" "$root/e2e/definitions.sh"; } | cksum | cut -d' ' -f1)
if ! [ -d "$schemas" ]; then
    say "making the schemas of Kubernetes (once)"
    cd "$work"
    # shellcheck source=/dev/null
    swagger=$(source "$root/e2e/cluster/common.sh" && go_module "$work" "$kubernetes")/api/openapi-spec/swagger.json
    monitoring=$("$root/e2e/definitions.sh")/monitoring.coreos.com
    mkdir -p "$cache"
    rm -rf "$schemas.partial"
    "$python" "$here/schemas.py" "$schemas.partial" "$swagger" \
        "${monitoring}_servicemonitors.yaml" "${monitoring}_prometheusrules.yaml"
    mv "$schemas.partial" "$schemas"
fi
# Our own change with the working tree.
"$python" "$here/schemas.py" "$work/own" - "$root"/charts/llm-memory-crds/templates/*.yaml

# conforms ARGUMENT...: kubeconform, strict: a field that the schema lacks is an error.
conforms() {
    local folder locations=()
    for folder in "$work/own" "$schemas"; do
        locations+=(-schema-location "$folder/{{.ResourceKind}}-{{.Group}}-{{.ResourceAPIVersion}}.json"
            -schema-location "$folder/{{.ResourceKind}}-{{.ResourceAPIVersion}}.json")
    done
    kubeconform -strict "${locations[@]}" "$@"
}

# ---- Charts ----------------------------------------------------------------------------------

cd "$root"
helm lint --strict --quiet charts/llm-memory-crds "$operator"
# The schema of a CustomResourceDefinition contains itself; the API server of the tests checks it.
helm template crds charts/llm-memory-crds | conforms -skip CustomResourceDefinition

# render NAME ARGUMENT...: the operator's chart as a cluster with Prometheus' operator gets it.
render() {
    helm template "$1" "$operator" --namespace llm-memory-system \
        --api-versions monitoring.coreos.com/v1 --api-versions llm-memory.dev/v1alpha1 "${@:2}"
}
render llm-memory-operator >"$work/default.yaml"
conforms "$work/default.yaml"
for values in "$here"/values/*.yaml; do
    helm lint --strict --quiet "$operator" --values "$values"
    render other --values "$values" >"$work/$(basename "$values")"
    conforms "$work/$(basename "$values")"
done
"$python" "$here/policy.py" "$work"/{default,namespaced,available,bare,words}.yaml
"$python" "$here/dashboard.py" "$operator/files/dashboard.json" docs/metrics.md

# refused WHAT ARGUMENT...: these values must not be taken.
refused() {
    if render llm-memory-operator "${@:2}" >/dev/null 2>&1; then fail "the chart took $1"; fi
}
refused "a name that does not exist" --set replica=2
refused "a nested name that does not exist" --set monitoring.dashboard.enable=false
refused "an unknown word" --set tokenReview.bindTo=everybody
refused "two operators without a Lease" --set replicas=2 --set leaderElection.enabled=false
refused "namespaces to bind, but none watched" --set tokenReview.bindTo=namespaces
refused "no account at all" --set serviceAccount.create=false
if helm template crds charts/llm-memory-crds --set any=value >/dev/null 2>&1; then
    fail "the chart llm-memory-crds took a value"
fi

# ---- Samples ---------------------------------------------------------------------------------

# An Issuer is cert-manager's.
conforms -skip Issuer deploy/samples/*.yaml
sed 's/^spec: {}$/spec: {replica: 1}/' deploy/samples/minimal.yaml >"$work/typo.yaml"
if conforms "$work/typo.yaml" >/dev/null 2>&1; then fail "a field that does not exist passed"; fi

# ---- Rules -----------------------------------------------------------------------------------

rules=(operator/rules/alerts.yaml "$operator/files/operator-alerts.yaml")
quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "failed: $*"; }; }
quietly promtool check rules --lint=all --lint-fatal "${rules[@]}"
quietly promtool test rules operator/rules/*_test.yaml "$operator"/files/*_test.yaml
# As the chart renders them, placeholders replaced; "there is no target" is an alert where one is
# asked for.
for name in default words; do
    "$python" - "$work/$name.yaml" "$work/$name-rules.yaml" <<'PYTHON'
import sys, yaml
manifests = [d for d in yaml.safe_load_all(open(sys.argv[1])) if d]
rules = [d for d in manifests if d["kind"] == "PrometheusRule"]
assert len(rules) == 1, rules
text = yaml.safe_dump(rules[0]["spec"])
assert "__" not in text, "a placeholder was left in the rendered rules"
monitored = any(d["kind"] == "ServiceMonitor" for d in manifests)
assert ("absent(" in text) == monitored, "absent() belongs to a ServiceMonitor"
open(sys.argv[2], "w").write(text)
PYTHON
    quietly promtool check rules --lint=all --lint-fatal "$work/$name-rules.yaml"
done

say "charts, samples and rules are in order"
