#!/usr/bin/env bash
# fuzz.sh [RUNS]: throws so many inputs, grown from fuzz/corpus, at what reads
# messages of others, and configurations. The coverage guides it; the seed is fixed, and what it
# finds new is not kept (fuzz/README.md tells how to search for longer).
#
# The stable compiler does: no sanitizer is asked for, and our code has no
# unsafe block that one would watch.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

runs=${1:-20000}
found=$(mktemp -d)
# Where the services that are called have their databases.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$found" "$TMPDIR"' EXIT

# fuzz TARGET LONGEST [RUNS]
fuzz() {
    local runs=${3:-$runs}
    cargo fuzz run --dev --sanitizer none "$1" "$found" "fuzz/corpus/$1" -- \
        -seed=1 -runs="$runs" -max_len="$2" -timeout=10 -print_final_stats=1 2>"$found.log" ||
        { cat "$found.log"; return 1; }
    grep -E '^Done|^stat::(number_of_executed_units|new_units_added)' "$found.log"
    rm -rf "$found.log" "${found:?}"/*
}

step "fuzz message, $runs inputs" fuzz message 4096
step "fuzz rest_form, $runs inputs" fuzz rest_form 512
# Each is a call to a service with a database, and may rightly wait for events.
step "fuzz request, $((runs / 10)) inputs" fuzz request 1024 $((runs / 10))
step "fuzz event_data, $runs inputs" fuzz event_data 1024
# Each reads a whole configuration.
step "fuzz config, $((runs / 10)) inputs" fuzz config 1024 $((runs / 10))
