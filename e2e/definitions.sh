#!/usr/bin/env bash
# The definitions of other projects' resources that the operator makes where they exist: prints
# the folder with them. Fetched once from two Go modules, which `go mod download` checks.
set -euo pipefail

# shellcheck source=e2e/cluster/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster/common.sh"
prometheus=github.com/prometheus-operator/prometheus-operator@v0.85.0
certificates=github.com/cert-manager/cert-manager@v1.21.2
folder=$cache/definitions-$(cksum <"${BASH_SOURCE[0]}" | cut -d' ' -f1)

if ! [ -d "$folder" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    mkdir "$work/definitions"
    from=$(go_module "$work" "$prometheus")/example/prometheus-operator-crd
    cp "$from"/monitoring.coreos.com_{servicemonitors,prometheusrules}.yaml "$work/definitions"
    from=$(go_module "$work" "$certificates")/deploy/crds
    cp "$from"/cert-manager.io_certificates.yaml "$work/definitions"
    mkdir -p "$cache"
    rm -rf "$folder.partial"
    cp -r "$work/definitions" "$folder.partial"
    mv "$folder.partial" "$folder"
fi
echo "$folder"
