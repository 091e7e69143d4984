#!/usr/bin/env bash
# image.sh DIRECTORY ARCHITECTURE=PROGRAM...: makes an OCI image of one static
# program per architecture (amd64, arm64) in DIRECTORY/ARCHITECTURE, an OCI
# layout, and prints its digest, what is pulled and what lies on disk then. No
# daemon, no registry, no network. Either size has a limit; PROFILE=quick, as for
# static.sh, says that the program is a larger one that is not published.
#
#   scripts/image.sh target/image amd64=$(scripts/static.sh)
#   skopeo copy oci:target/image/amd64 docker://registry.example/eventstream:0.1.0
#
# The same program and the same ca-certificates give the same digest: no time
# and no name of this machine is in it.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

AUTHORITIES=/etc/ssl/certs/ca-certificates.crt
LIMIT=$((20 * 1000 * 1000))

[ $# -ge 2 ] || fail "usage: scripts/image.sh DIRECTORY ARCHITECTURE=PROGRAM..."
out=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

with_buildah() {
    buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs "$@"
}

# A program that needs a loader would not start in an empty image.
is_static() {
    ! readelf --program-headers "$1" | grep -q INTERP
}

version() {
    sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml
}

lay_out() {
    mkdir -p "$work/context/data"
    install -m 0555 "$1" "$work/context/eventstream"
    install -m 0444 "$AUTHORITIES" "$work/context/ca-certificates.crt"
}

build() {
    local architecture=$1
    with_buildah build --quiet --isolation chroot --arch "$architecture" --timestamp 0 \
        --build-arg VERSION="$(version)" --build-arg REVISION="$(git rev-parse HEAD)" \
        --tag "eventstream:$architecture" --file deploy/image/Containerfile "$work/context" >/dev/null &&
        rm -rf "${out:?}/$architecture" && mkdir -p "$out" &&
        with_buildah push --quiet "eventstream:$architecture" "oci:$out/$architecture:$(version)"
}

# Of the files below a directory.
bytes() {
    find "$1" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }'
}

digest() {
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["manifests"][0]["digest"])' "$1/index.json"
}

for argument in "$@"; do
    architecture=${argument%%=*}
    program=${argument#*=}
    is_static "$program" || fail "$program is not static"
    lay_out "$program"
    build "$architecture" || fail "the image for $architecture"
    packed=$(bytes "$out/$architecture/blobs")
    unpacked=$(bytes "$work/context")
    [ "$packed" -le "$LIMIT" ] || fail "the image for $architecture has $packed bytes, more than $LIMIT"
    echo "$architecture $(digest "$out/$architecture") $packed bytes, $unpacked unpacked"
done
