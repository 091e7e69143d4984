#!/usr/bin/env bash
# The whole judgement: tools, lints, tests. `make test` and CI run this.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

# suite TEXT COMMAND...: not through `step`: the rest is run after a failure too,
# and then the summary is printed.
suite() {
    local text=$1 start=$SECONDS
    shift
    say "$text"
    "$@" 2>&1 | tee -a "$log" || failed+=("$text")
    printf '    %s: %d s\n' "$text" $((SECONDS - start)) | tee -a "$log"
}

log=$(mktemp)
failed=()
trap 'rm -f "$log"' EXIT
export CARGO_TERM_COLOR=never

step "tools in .cache/tools" scripts/tools.sh
step "lint" scripts/lint.sh
suite "cargo test" cargo test --no-fail-fast
step "the program" cargo build --quiet --bin eventstream
suite "deploy/" scripts/deploy.sh
suite "fuzz" scripts/fuzz.sh
step "judge of the clients" cargo build --quiet -p eventstream-conformance
suite "the console in Chromium" scripts/with-services.sh tests/console/test.sh
suite "the five clients" scripts/with-services.sh scripts/clients.sh

say "summary"
grep -E '^ +(Running|Doc-tests) |^test result: |^test .* FAILED$|^=+ .*(passed|failed)|^[0-9]+ (passed|failed)|^==> go: |^ℹ (tests|pass|fail) |^\[[A-Z]+\] Tests run: [^,]*, [^-]*$|^Done |^    .*: [0-9]+ s$' "$log" || true
# A green run that ran nothing is the worst kind of red.
count=$(awk '/^test result: /{ total += $4 + $6 } END { print total + 0 }' "$log")
[ "${#failed[@]}" -eq 0 ] || fail "${failed[@]}"
[ "$count" -gt 0 ] || fail "no test was executed"
say "$count tests, $SECONDS s in all"
