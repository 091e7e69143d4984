#!/usr/bin/env bash
# earlier.sh: builds `eventstream` as it was before the fifth step of the schema
# (upkeep), for the test of an upgrade under load, and prints where it is.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

COMMIT=af4dfa60

home=$PWD/.cache/earlier-$COMMIT
if [ ! -x "$home/eventstream" ]; then
    git cat-file -e "$COMMIT^{commit}" 2>/dev/null || fail "the history of this checkout does not reach $COMMIT"
    rm -rf "$home.source"
    mkdir -p "$home.source" "$home"
    git archive "$COMMIT" | tar -x -C "$home.source"
    cargo build --quiet --locked --release --bin eventstream \
        --manifest-path "$home.source/Cargo.toml" --target-dir "$home.source/target" >&2
    mv "$home.source/target/release/eventstream" "$home/"
    rm -rf "$home.source"
fi
echo "$home/eventstream"
