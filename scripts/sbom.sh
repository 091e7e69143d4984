#!/usr/bin/env bash
# sbom.sh [ARCHITECTURE [FILE]]: what the static program for x86_64 or aarch64 is
# made of, as CycloneDX 1.5 in JSON, in target/eventstream-ARCHITECTURE.cdx.json
# by default: the crates that are compiled into it for that target, its allocator
# included, not those of tests, tools and the build. The same commit gives the
# same file.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

CARGO_CYCLONEDX=0.5.7

home="$TOOLS/cargo-cyclonedx-$CARGO_CYCLONEDX"
if [ ! -d "$home" ]; then
    say "building cargo-cyclonedx $CARGO_CYCLONEDX (takes minutes, once)"
    rm -rf "$home.part"
    cargo install --quiet --locked --root "$home.part" "cargo-cyclonedx@$CARGO_CYCLONEDX"
    mkdir -p "$TOOLS/bin"
    mv "$home.part" "$home"
    ln -sfn "../$(basename "$home")/bin/cargo-cyclonedx" "$TOOLS/bin/cargo-cyclonedx"
fi

architecture=${1:-x86_64}
out=${2:-target/eventstream-$architecture.cdx.json}
case $architecture in
    x86_64 | aarch64) target=$architecture-unknown-linux-musl ;;
    *) fail "usage: scripts/sbom.sh [x86_64|aarch64 [FILE]]" ;;
esac
[ ! -d "$out" ] || fail "$out is a directory"
mkdir -p "$(dirname "$out")"
made=eventstream-sbom
trap 'find . -name "$made.json" -not -path "./target/*" -delete' EXIT
step "cargo cyclonedx for $target" cargo cyclonedx --quiet --format json --spec-version 1.5 \
    --no-build-deps --target "$target" --override-filename "$made"
mv "$made.json" "$out"
python3 - "$out" "$PWD" "$(TZ=UTC git log -1 --date=format-local:%FT%TZ --format=%cd)" <<'PY'
import json, sys
path, checkout, commit_time = sys.argv[1:]
with open(path) as file:
    # Where it was checked out is nobody's business.
    bom = json.loads(file.read().replace(f"file://{checkout}", "file:///eventstream"))
assert bom["bomFormat"] == "CycloneDX" and bom["metadata"]["component"]["name"] == "futoin-eventstream"
names = {component["name"] for component in bom["components"]}
# One of every target, one of this target alone, and one of tests.
assert {"tokio", "mimalloc"} <= names and "proptest" not in names, sorted(names)
# A number and a time of each run would make each file another one.
bom.pop("serialNumber", None)
bom["metadata"]["timestamp"] = commit_time
with open(path, "w") as file:
    json.dump(bom, file, indent=2)
print(f"    {len(bom['components'])} components in {path}")
PY
