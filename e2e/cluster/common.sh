# shellcheck shell=bash
# What every script here shares: words for people, and where things lie. Sourced, never run.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${JUSTW_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/llm-memory}
tools=$cache/cluster-tools

say() { printf 'cluster: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# tool_folder NAME: where the programs of tools/NAME lie. The name holds a hash of the pinned
# versions, so that another version is another folder and switching branches rebuilds nothing.
tool_folder() {
    local pins=("$here/tools/$1"/*)
    printf '%s/%s-%s\n' "$tools" "$1" "$(cat "${pins[@]}" | sha256sum | cut -c1-12)"
}

# tool_path: the folders of all programs, for PATH. They come before the machine's own: Debian's
# containerd shim does not understand this containerd.
tool_path() {
    local folder
    for folder in "$here"/tools/*/; do
        printf '%s:' "$(tool_folder "$(basename "$folder")")"
    done
}

# wait_until SECONDS WHAT COMMAND...: runs COMMAND until it succeeds; says WHAT did not happen.
wait_until() {
    local seconds=$1 what=$2 end
    shift 2
    end=$((SECONDS + seconds))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { say "$what did not happen within $seconds s"; return 1; }
        sleep 0.2
    done
}

# go_module FOLDER PATH@VERSION: fetches a Go module into FOLDER, and answers where it lies there.
go_module() {
    GOMODCACHE=$1/modules GOFLAGS=-modcacherw go mod download -json "$2" |
        sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' | grep . ||
        fail "could not fetch $2: run 'go mod download $2' to see why"
}

pause_folder() { printf '%s/pause-%s\n' "$tools" "$(sha256sum <"$here/pause.c" | cut -c1-12)"; }
