#!/usr/bin/env bash
# Builds the images that only tests need, where buildah lacks them, and brings them into the cluster:
#   build.sh [--force]     STORAGE names buildah's storage driver, BASE the base image
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
image=localhost/llm-memory-e2e-agent:1
base=${BASE:-localhost/debian:bookworm-slim}
b=(buildah --storage-driver "${STORAGE:-vfs}")

say() { printf 'images: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# What the image is made from, as a label: a change of it makes another one.
made_from=$(cat "$here/agent/"* "$root/tests/clients/python/requirements.txt" | sha256sum | cut -c1-16)
label='{{index .OCIv1.Config.Labels "made-from"}}'
have=$("${b[@]}" inspect --type image --format "$label" "$image" 2>/dev/null || true)

if [ "$have" != "$made_from" ] || [ "${1:-}" = --force ]; then
    "${b[@]}" inspect --type image "$base" >/dev/null 2>&1 ||
        fail "buildah has no image $base: ./justw image makes it"
    say "building $image"
    context=$(mktemp -d)
    trap 'rm -rf "$context"' EXIT
    cp "$here"/agent/* "$context"
    # For the Python of the image, whichever this machine has; and without pip in the image.
    python3 -m venv "$context/venv"
    "$context/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --require-hashes --only-binary :all: --implementation cp --python-version 3.11 \
        --target "$context/packages" -r "$root/tests/clients/python/requirements.txt"
    rm -rf "$context/venv"
    chmod -R a+rX "$context/packages"
    "${b[@]}" build --quiet --isolation chroot --network host --build-arg "BASE=$base" \
        --label "made-from=$made_from" --tag "$image" "$context" >/dev/null
fi
"$root/justw" cluster load "$image"
