#!/usr/bin/env bash
# Compiles the programs pinned in tools/ into the cache: build.sh [NAME...]; all without names.
#
# Prints nothing and needs no Go when they are there. Programs are built one after another, and a
# build that was interrupted goes on with the first program it had not finished. Downloads and
# object files (9 GB for all) are kept apart from the user's own Go caches and removed at the end.
set -euo pipefail
# shellcheck source=e2e/cluster/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

scratch=$cache/cluster-build
export GOCACHE=$scratch/objects GOMODCACHE=$scratch/modules GOFLAGS=-modcacherw GOWORK=off
export GOTMPDIR=$scratch/temporary
export CGO_ENABLED=0

# program_name NAME PACKAGE: what a package's program is called. A module whose root is the
# program would be named after its major version; it takes the name of its folder here.
program_name() {
    case ${2##*/} in
        v[0-9]*) echo "$1" ;;
        *) echo "${2##*/}" ;;
    esac
}

# finish NAME FOLDER: what a program needs besides itself.
finish() {
    case $1 in
        kwok) # how fake nodes and pods behave
            local stages stage
            stages=$(go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
            for stage in node/fast/node-initialize node/heartbeat-with-lease/node-heartbeat-with-lease \
                pod/fast/pod-ready pod/fast/pod-complete pod/fast/pod-delete; do
                install -D -m 644 "$stages/$stage.yaml" "$2/stages/$(basename "$stage").yaml"
            done
            ;;
    esac
}

build() {
    local name=$1 folder packages package program flags='-s -w' begun=$SECONDS
    folder=$(tool_folder "$name")
    command -v go >/dev/null || fail "Go is missing: call this through ./justw cluster, which installs it"
    say "compiling $name (once)"
    mkdir -p "$folder.partial" "$GOTMPDIR"
    cd "$here/tools/$name"
    [ ! -e ldflags ] || flags+=" $(cat ldflags)"
    packages=$(go mod edit -json | jq -r '.Tool[].Path')
    for package in $packages; do
        program=$(program_name "$name" "$package")
        [ ! -x "$folder.partial/$program" ] || continue
        go build -mod=readonly -trimpath -buildvcs=false -ldflags "$flags" \
            -o "$folder.partial/$program.new" "$package" 2>"$GOTMPDIR/said" || {
            grep -v '^go: downloading ' "$GOTMPDIR/said" >&2 || true
            fail "could not compile $program; the lines above say why"
        }
        mv "$folder.partial/$program.new" "$folder.partial/$program"
    done
    finish "$name" "$folder.partial"
    mv "$folder.partial" "$folder"
    say "compiled $name in $((SECONDS - begun)) s"
}

# Holds the pods' namespaces; a program of ours because no registry is asked for one.
build_pause() {
    local folder work
    folder=$(pause_folder)
    [ ! -e "$folder/pause.tar" ] || return 0
    work=$(mktemp -d)
    local b=(buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs)
    cc -static -Os -s -o "$work/pause" "$here/pause.c"
    local container
    container=$("${b[@]}" from scratch)
    "${b[@]}" add --quiet "$container" "$work/pause" /pause >/dev/null
    "${b[@]}" config --entrypoint '["/pause"]' "$container"
    "${b[@]}" commit --quiet --rm "$container" localhost/pause:1 >/dev/null
    mkdir -p "$folder"
    "${b[@]}" push --quiet localhost/pause:1 "docker-archive:$work/pause.tar:localhost/pause:1"
    mv "$work/pause.tar" "$folder/pause.tar"
    rm -rf "$work"
}

names=("$@")
[ ${#names[@]} -gt 0 ] || mapfile -t names < <(ls "$here/tools")
lacking=()
for name in "${names[@]}"; do
    [ -e "$here/tools/$name/go.mod" ] || fail "no such program: $name; there are: $(ls -m "$here/tools")"
    [ -d "$(tool_folder "$name")" ] || lacking+=("$name")
done
[ ${#lacking[@]} -gt 0 ] || [ ! -e "$(pause_folder)/pause.tar" ] || exit 0

mkdir -p "$tools"
exec 8>"$tools/lock"
flock -n 8 || { say "another build is running; waiting for it"; flock 8; }
for name in "${lacking[@]}"; do
    [ -d "$(tool_folder "$name")" ] || (build "$name")
done
build_pause
rm -rf "$scratch"
