# What people and CI run. Call them through ./justw, which installs what is missing.

set shell := ["bash", "-euo", "pipefail", "-c"]
set ignore-comments := true

# Where cargo puts what it builds.
target := env("CARGO_TARGET_DIR", justfile_directory() / "target")

fuzz_folders := "server/engine/fuzz server/fuzz"

# Lists the recipes.
@_default:
    just --justfile {{ justfile() }} --list --unsorted

# Builds the server, loads real text, searches it over MCP, survives kill -9; `--cluster`: all of it on Kubernetes. Leaves nothing behind.
[positional-arguments]
demo *ARGS:
    #!/usr/bin/env bash
    set -euo pipefail
    echo "demo: building in release form (some minutes the first time)"
    if [ "${1:-}" = --cluster ]; then
        shift
        exec e2e/demo.sh "$@"
    fi
    cargo build --release --quiet -p llm-memory -p llm-memory-tests --bin llm-memory --bin demo
    exec "{{ target }}/release/demo" "$@"

# What CI checks without a cluster: format, tests of all crates, reference pages, lints, licences, manifests.
test *ARGS: _format
    # Programs and tests in one build: with the tests' features apart, both would compile twice.
    cargo build --workspace --all-targets --quiet
    TEST_SERVER_BINARY="{{ target }}/debug/llm-memory" cargo nextest run --workspace --filterset 'not (package(llm-memory-e2e) and kind(test))' {{ ARGS }}
    cargo test --workspace --doc --quiet
    "{{ target }}/debug/llm-memory" docs generate --check
    "{{ target }}/debug/crdgen" --check charts/llm-memory-crds/templates
    @just --justfile {{ justfile() }} _clippy _deny _manifests

# Format, clippy with warnings as errors, licences.
lint: _format _clippy _deny

_format:
    cargo fmt --all --check

_clippy:
    cargo clippy --workspace --all-targets --quiet -- -D warnings

# Advisories need a copy of the advisory database, which not every network lets through; the
# rest needs nothing but Cargo.lock and the crates.
_deny:
    cargo deny --log-level error --all-features check licenses bans sources

# Known vulnerabilities in dependencies (fetches the advisory database).
advisories:
    cargo deny check advisories

# The integration tests start these as programs.
_build:
    cargo build --workspace --bins --quiet

# Each crate alone, so that none borrows features or dependencies from its neighbours; and the
# fuzz targets, which are no members of the workspace.
_manifests:
    for crate in llm-memory-crds llm-memory-operator llm-memory-disk llm-memory-engine llm-memory llm-memory-tests llm-memory-e2e; do cargo check --quiet -p $crate; done
    for folder in {{ fuzz_folders }}; do cargo check --quiet --locked --no-default-features --manifest-path $folder/Cargo.toml; done

# Writes the reference pages in docs/ that repeat the code.
docs: _build
    "{{ target }}/debug/llm-memory" docs generate

# Formats all code.
fmt:
    cargo fmt --all

# Kills the server (kill -9) N times under 16 writers and compaction, and checks what it had acknowledged.
crash N="50" *ARGS: _build
    "{{ target }}/debug/crash" --cycles {{ N }} {{ ARGS }}

# Runs every fuzz target for SECONDS each, beginning with what earlier runs found.
fuzz SECONDS="60":
    #!/usr/bin/env bash
    set -euo pipefail
    for folder in {{ fuzz_folders }}; do
        names=$(cargo fuzz list --fuzz-dir "$folder")
        [ -n "$names" ] || { echo "fuzz: no targets in $folder" >&2; exit 1; }
        for name in $names; do
            echo "fuzz: $name for {{ SECONDS }} s"
            cargo +nightly fuzz run --fuzz-dir "$folder" "$name" -- \
                -max_total_time={{ SECONDS }} -rss_limit_mb=4096 -timeout=20 -print_final_stats=1
        done
    done

# Measures writes, start, memory, bytes and search; `--items 10000,100000,1000000` for all sizes.
bench *ARGS:
    @cargo build --release --quiet -p llm-memory -p llm-memory-tests --bins
    @"{{ target }}/release/bench" {{ ARGS }}

# Builds the images `localhost/llm-memory` and `localhost/llm-memory-operator` with buildah; BASE is any Debian-like image.
image BASE="localhost/debian:bookworm-slim" STORAGE="vfs":
    #!/usr/bin/env bash
    set -euo pipefail
    b=(buildah --storage-driver {{ STORAGE }})
    if ! "${b[@]}" inspect --type image {{ BASE }} >/dev/null 2>&1 && [ {{ BASE }} = localhost/debian:bookworm-slim ]; then
        echo "image: making the base image with mmdebstrap"
        scratch=$(mktemp -d)
        trap 'rm -rf "$scratch"' EXIT
        mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm "$scratch/base.tar"
        container=$("${b[@]}" from scratch)
        "${b[@]}" add --quiet "$container" "$scratch/base.tar" /
        "${b[@]}" commit --quiet --rm "$container" {{ BASE }}
    fi
    folder=${PROGRAMS:-}
    if [ -z "$folder" ]; then
        echo "image: building server and operator in release form"
        # Apart, so that neither gets features that only the other asks for.
        cargo build --release --quiet -p llm-memory --bin llm-memory
        cargo build --release --quiet -p llm-memory-operator --bins
        folder="{{ target }}/release"
    fi
    mkdir -p dist
    for program in llm-memory llm-memory-operator kubectl-memory; do
        strip --strip-debug -o "dist/$program" "$folder/$program"
    done
    # The version is the tag that the charts name.
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
    build() { # build TARGET IMAGE
        "${b[@]}" build --quiet --isolation chroot --network host --target "$1" --build-arg BASE={{ BASE }} \
            --label "$ours" --tag "$2:latest" --tag "$2:$version" .
        echo "image: $2:latest, $2:$version"
    }
    # Those that these take the place of: each would keep a file system of its own.
    ours=llm-memory.dev/built-by=image
    prune() {
        local former
        former=$("${b[@]}" images --quiet --filter dangling=true --filter "label=$ours")
        # shellcheck disable=SC2086 # names without spaces
        [ -z "$former" ] || "${b[@]}" rmi $former >/dev/null || echo "image: some former images stay" >&2
    }
    build prebuilt localhost/llm-memory
    build operator-prebuilt localhost/llm-memory-operator
    prune

# Checks the charts, the samples and the alert rules, without a cluster.
charts:
    @charts/check/check.sh

# Writes the manifests of the resources that the types in crds/ describe.
crds:
    @cargo run --quiet -p llm-memory-crds --bin crdgen charts/llm-memory-crds/templates

# Tests on a real Kubernetes cluster: KUBECONFIG's, or one of its own; also `chaos` and `scale`.
[positional-arguments]
e2e *ARGS:
    @e2e/run.sh "$@"

# A Kubernetes cluster of one node on this machine, for tests: up, down, status, load IMAGE, ... (help).
[positional-arguments]
cluster *ARGS:
    @e2e/cluster/cluster.sh "$@"
