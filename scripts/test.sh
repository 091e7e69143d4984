#!/usr/bin/env bash
# The whole judgement: tools, lints, tests. `make test` and CI run this.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

# Not through `step`: the summary is printed after a failure too.
run_tests() {
    local start=$SECONDS
    say "cargo test"
    CARGO_TERM_COLOR=never cargo test --no-fail-fast 2>&1 | tee "$log" || tests=failed
    printf '    cargo test: %d s\n' $((SECONDS - start))
}

run_clients() {
    scripts/with-services.sh scripts/clients.sh 2>&1 | tee -a "$log"
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT

step "tools in .cache/tools" scripts/tools.sh
step "lint" scripts/lint.sh
tests=passed
run_tests
step "fuzz" scripts/fuzz.sh
step "service and judge for the clients" cargo build --quiet --workspace --bins
step "the five clients" run_clients

say "summary"
grep -E '^ +(Running|Doc-tests) |^test result: |^test .* FAILED$' "$log" || true
# A green run that ran nothing is the worst kind of red.
count=$(awk '/^test result: /{ total += $4 + $6 } END { print total + 0 }' "$log")
[ "$tests" = passed ] || fail "cargo test"
[ "$count" -gt 0 ] || fail "no test was executed"
say "$count tests, $SECONDS s in all"
