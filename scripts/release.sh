#!/usr/bin/env bash
# release.sh [DIRECTORY]: everything that is published, in target/release-VERSION
# by default: the static programs of both architectures, their images as OCI
# archives, what each program is made of (SBOM), the chart, and checksums of all.
# It publishes nothing.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
out=$(realpath -m "${1:-target/release-$version}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
declare -A oci=([x86_64]=amd64 [aarch64]=arm64)

[ -z "$(git status --porcelain)" ] || fail "what is not committed would be in it: commit or stash it"
rm -rf "$out"
mkdir -p "$out"

# The same bytes for the same files, whenever it is made.
archive() {
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$2" -c "${@:3}" | gzip -n >"$1"
}

program() {
    local path
    path=$(scripts/static.sh "$1") || return 1
    mkdir "$work/$1"
    install -m 755 "$path" "$work/$1/eventstream"
    cp LICENSE "$work/$1/"
    archive "$out/eventstream-$version-$1-linux.tar.gz" "$work/$1" eventstream LICENSE
}

image() {
    scripts/image.sh "$work/image" "${oci[$1]}=$work/$1/eventstream" | tee -a "$out/IMAGES" &&
        tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner \
            -C "$work/image/${oci[$1]}" -cf "$out/eventstream-$version-${oci[$1]}.oci.tar" .
}

checksums() {
    (cd "$out" && find . -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum >SHA256SUMS)
}

for architecture in x86_64 aarch64; do
    step "static program for $architecture" program "$architecture"
    step "image for $architecture" image "$architecture"
    step "what it is made of" scripts/sbom.sh "$architecture" "$out/eventstream-$version-$architecture-linux.cdx.json"
done
step "chart" helm package --destination "$out" deploy/helm/eventstream
step "checksums" checksums
say "in $out:"
ls -l "$out"
