#!/usr/bin/env bash
# The campaign of tests/it/hostile with all that it has, in release; prints the
# table of SECURITY.md. Fails when an attack did not come to what it should, or
# the bystander waited too long beside it. Needs 20 000 open files.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
ulimit -n 20000 || fail "the campaign needs 20 000 open files (ulimit -n)"
step "building the tests in release" cargo test --quiet --release --features soak --test it --no-run
CARGO_TERM_COLOR=never cargo test --release --features soak --test it -- \
    --test-threads 1 --nocapture soak::hostile_peers 2>&1 | tee "$log" | grep -E '^test |panicked' || true
printf '| attack | what was sent | what happened | memory | bystander p50 / p99 (undisturbed) | its failed calls |\n|---|---|---|---|---|---|\n'
grep '^VERDICT' "$log" | awk -F'|' '{ printf "| %s | %s | %s | %s | %s | %s |\n", $2, $3, $4, $5, $6, $7 }'
grep -qE '^test result: ok\. 1 passed' "$log" || fail "see above"
