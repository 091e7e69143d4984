#!/usr/bin/env bash
# Repeats the integration tests in release until SOAK_MINUTES (10) are over,
# with more cases for each property; the first failure ends it.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

minutes=${SOAK_MINUTES:-10}
export PROPTEST_CASES="${PROPTEST_CASES:-2048}"

step "building the tests in release" cargo test --release --test it --no-run
round=0
while [ $((SECONDS / 60)) -lt "$minutes" ]; do
    round=$((round + 1))
    step "round $round, minute $((SECONDS / 60)) of $minutes" \
        cargo test --quiet --release --test it
done
say "$round rounds passed"
