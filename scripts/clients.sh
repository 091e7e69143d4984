#!/usr/bin/env bash
# clients.sh [generated|test|examples|recorders]...: what is to be done with
# the five clients; all but the last without an argument.
#
#   generated  generates again and fails where that changes a file
#   test       lints, builds and tests each, beside with-services.sh
#   examples   what their READMEs show, in an empty project with the built package
#   recorders  builds the programs of the chaos run and of the figures
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

LANGUAGES=(rust python typescript go java)

# Java's is made by Maven in each build.
generated() {
    local language
    for language in rust python typescript go; do
        step "$language: generated code" "clients/$language/generate.sh"
    done
    local changed
    changed=$(git status --porcelain -- clients)
    [ -z "$changed" ] || fail "generated code differs from proto/, run make clients: $changed"
}

# Every language has its turn, whatever became of the one before.
each() {
    local language start failed=()
    for language in "${LANGUAGES[@]}"; do
        start=$SECONDS
        say "$language: $1"
        "clients/$language/$1.sh" || failed+=("$language: $1")
        printf '    %s: %d s\n' "$language: $1" $((SECONDS - start))
    done
    [ "${#failed[@]}" -eq 0 ] || fail "${failed[@]}"
}

recorders() {
    local language
    for language in "${LANGUAGES[@]}"; do
        step "$language: recorder" recorder_of "$language"
    done
}

# Its standard input is at its end: it ends at once.
recorder_of() {
    "clients/$1/recorder.sh" "$TEST_SQLITE" "BUILD_${1^^}" --quiet </dev/null
}

[ $# -gt 0 ] || set -- generated test examples
for task in "$@"; do
    case $task in
    generated) generated ;;
    test) each test ;;
    examples) each example ;;
    recorders) recorders ;;
    *) fail "usage: scripts/clients.sh [generated|test|examples|recorders]..." ;;
    esac
done
