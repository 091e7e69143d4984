#!/usr/bin/env bash
# The long tests, in release: EVENTSTREAM_KILLS (100) crashes under load, then
# SOAK_MINUTES (30) of load with the memory of the server sampled, then
# `eventstream soak` with EVENTSTREAM_EVENTS (100000) on a throwaway server of
# each engine, 30 deaths of a service under the receivers of all five clients,
# replicas replaced under them, by the same program and from two earlier ones
# (or from EVENTSTREAM_EARLIER, a program of any version), hostile peers, as many
# minutes of archiver and discarder in trouble, as many kills of the archiver, and
# every test that waits for a time-out. A seed repeats a run: EVENTSTREAM_SEED.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

run() {
    CARGO_TERM_COLOR=never cargo test --release --features soak --test it -- \
        --test-threads 1 --nocapture "$@" 2>&1 | tee -a "$log" | grep -E '^(test |EVENTSTREAM_SEED)|panicked'
}

# Green only if something ran, whatever the pipe above did with the exit code.
passed() {
    run "$@" || true
    tail -n 5 "$log" | grep -qE '^test result: ok\. [1-9]'
}

log=$(mktemp)
verdict() {
    say "verdict (everything that was said: $log)"
    grep '^VERDICT' "$log" | awk -F'|' '{ printf "    %-44s %s\n", $2, $3 }' || true
}
trap verdict EXIT

step "building the tests in release" cargo test --quiet --release --features soak --test it --no-run
step "kills under load" passed soak::hundred_kills
step "load for ${SOAK_MINUTES:-30} minutes" passed soak::hours_of_load
step "the five clients are built" scripts/with-services.sh scripts/clients.sh recorders
step "receivers of five languages" passed soak::receivers
step "replicas replaced under receivers of five languages" passed soak::rolling::rolling_restarts
if [ -n "${EVENTSTREAM_EARLIER:-}" ]; then
    programs=("$EVENTSTREAM_EARLIER")
else
    say "building two earlier versions (takes minutes, once)"
    before_a_step=$(scripts/earlier.sh)
    before_this=$(scripts/earlier.sh HEAD~1)
    programs=("$before_this" "$before_a_step")
fi
for EVENTSTREAM_EARLIER in "${programs[@]}"; do
    # That one tells its receivers to wait for a second when it drains.
    [ "$EVENTSTREAM_EARLIER" != "${before_a_step:-}" ] || export EVENTSTREAM_SILENCE_MS=2000
    export EVENTSTREAM_EARLIER
    step "the same from $EVENTSTREAM_EARLIER to this version" passed soak::rolling::rolling_upgrade
done
step "hostile peers" passed soak::hostile_peers
step "adversarial writers on each engine" passed soak::writers_on
EVENTSTREAM_UPKEEP_SECONDS=$((60 * ${SOAK_MINUTES:-30}))
export EVENTSTREAM_UPKEEP_SECONDS
step "upkeep in trouble for ${SOAK_MINUTES:-30} minutes" passed upkeep::soak
EVENTSTREAM_ARCHIVE_KILLS=${EVENTSTREAM_KILLS:-100}
export EVENTSTREAM_ARCHIVE_KILLS
step "kills of the archiver on each pair of databases" passed archive::kills
step "time-outs" passed lifecycle::silent_peer
