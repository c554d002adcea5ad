# shellcheck shell=bash
# What the tests and the demonstration on a cluster share; sourced from the repository's root, after
# $target and say() are set.

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)

# build_images FOLDER: the programs in FOLDER as images of buildah.
build_images() { PROGRAMS=$1 ./justw image; }

# own_cluster NAME: starts a cluster and points everything at it.
own_cluster() {
    local settings
    export CLUSTER_NAME=${CLUSTER_NAME:-$1}
    settings=$(./justw cluster up)
    eval "$settings"
}

# load_images: what a store and an agent run.
load_images() {
    ./justw cluster load "localhost/llm-memory:$version" "localhost/llm-memory-operator:$version" >&2
    e2e/images/build.sh >&2
}

# find_helm: compiled once; a cluster that runs already may have been started without it.
find_helm() {
    ./justw cluster build helm >&2
    # shellcheck source=e2e/cluster/common.sh
    PATH=$(source e2e/cluster/common.sh && tool_folder helm):$PATH
    export PATH
}

# install_charts REGISTRY: both charts, as the README says.
install_charts() {
    helm upgrade --install llm-memory-crds charts/llm-memory-crds
    helm upgrade --install llm-memory-operator charts/llm-memory-operator \
        --namespace llm-memory-system --create-namespace --wait --timeout 2m \
        --set "image.repository=$1/llm-memory-operator" \
        --set "serverImage.repository=$1/llm-memory"
}
