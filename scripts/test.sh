#!/usr/bin/env bash
# The whole judgement: tools, lints, tests. `make test` and CI run this.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

run_tests() {
    cargo test --no-fail-fast 2>&1 | tee "$log"
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT

step "tools in .cache/tools" scripts/tools.sh
step "lint" scripts/lint.sh
step "cargo test" run_tests

say "summary"
grep -E '^ +(Running|Doc-tests) |^test result: ' "$log"
# A green run that ran nothing is the worst kind of red.
count=$(awk '/^test result: /{ total += $4 + $6 } END { print total + 0 }' "$log")
[ "$count" -gt 0 ] || fail "no test was executed"
say "$count tests, $SECONDS s in all"
