#!/usr/bin/env bash
# The definitions of other projects' resources that the operator makes where they exist: prints
# the folder with them. Fetched once from two Go modules, which `go mod download` checks.
set -euo pipefail

# shellcheck source=e2e/cluster/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/cluster/common.sh"
prometheus=github.com/prometheus-operator/prometheus-operator@v0.85.0
certificates=github.com/cert-manager/cert-manager@v1.21.2
folder=$cache/definitions-$(cksum <"${BASH_SOURCE[0]}" | cut -d' ' -f1)

# module PATH@VERSION: the folder of a Go module, kept until this script ends.
module() {
    GOMODCACHE=$work/modules GOFLAGS=-modcacherw go mod download -json "$1" |
        sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' | grep . ||
        fail "could not fetch $1: run 'go mod download $1' to see why"
}

if ! [ -d "$folder" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    mkdir "$work/definitions"
    from=$(module "$prometheus")/example/prometheus-operator-crd
    cp "$from"/monitoring.coreos.com_{servicemonitors,prometheusrules}.yaml "$work/definitions"
    from=$(module "$certificates")/deploy/crds
    cp "$from"/cert-manager.io_certificates.yaml "$work/definitions"
    mkdir -p "$cache"
    rm -rf "$folder.partial"
    cp -r "$work/definitions" "$folder.partial"
    mv "$folder.partial" "$folder"
fi
echo "$folder"
