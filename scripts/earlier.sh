#!/usr/bin/env bash
# earlier.sh [COMMIT]: builds `eventstream` as it was then and prints where it is,
# for the test of an upgrade under load (soak::rolling, EVENTSTREAM_EARLIER).
#
# Without COMMIT it is the last one before the newest step of the schema, the
# fifth, so that the upgrade has a migration in it. That lies hundreds of
# commits back, and further with each one; a step that is added moves it. What
# later commits changed is tried with `scripts/earlier.sh HEAD~1`, or any other.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

BEFORE_THE_FIFTH_STEP=af4dfa6f75e47d9f36d7f57d101c2dec3c245366

wanted=${1:-$BEFORE_THE_FIFTH_STEP}
commit=$(git rev-parse --verify --quiet "$wanted^{commit}") || fail "the history of this checkout has no $wanted"
home=$PWD/.cache/earlier-$commit
if [ ! -x "$home/eventstream" ]; then
    rm -rf "$home.source"
    mkdir -p "$home.source" "$home"
    git archive "$commit" | tar -x -C "$home.source"
    # Below this checkout it would be looked for in its workspace.
    grep -q '^\[workspace\]' "$home.source/Cargo.toml" || printf '\n[workspace]\n' >>"$home.source/Cargo.toml"
    cargo build --quiet --locked --release --bin eventstream \
        --manifest-path "$home.source/Cargo.toml" --target-dir "$home.source/target" >&2
    mv "$home.source/target/release/eventstream" "$home/"
    rm -rf "$home.source"
fi
echo "$home/eventstream"
