#!/usr/bin/env bash
# sbom.sh [FILE]: what a release is made of, as CycloneDX 1.5 in JSON: the crates
# of the binary for the target it is built for, not those of tests and tools.
# The same sources give the same file.
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

out=${1:-target/eventstream.cdx.json}
mkdir -p "$(dirname "$out")"
made=eventstream-sbom
trap 'find . -name "$made.json" -not -path "./target/*" -delete' EXIT
# The time of the commit, so that a repetition makes the same file.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
step "cargo cyclonedx" cargo cyclonedx --quiet --format json --spec-version 1.5 \
    --no-build-deps --override-filename "$made"
mv "$made.json" "$out"
python3 - "$out" <<'PY'
import json, sys
bom = json.load(open(sys.argv[1]))
assert bom["bomFormat"] == "CycloneDX" and bom["metadata"]["component"]["name"] == "futoin-eventstream"
# A number of its own for each run would make each file another one.
bom.pop("serialNumber", None)
json.dump(bom, open(sys.argv[1], "w"), indent=2)
print(f"    {len(bom['components'])} components in {sys.argv[1]}")
PY
