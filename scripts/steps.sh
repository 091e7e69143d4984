# Sourced by the other scripts: strict mode, the repository root, and steps
# that say what they do and how long it took.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TOOLS="$PWD/.cache/tools"
export PATH="$TOOLS/bin:$PATH"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"

say() { printf '==> %s\n' "$*"; }

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# step TEXT COMMAND...: runs COMMAND, and ends the script when it fails. A
# function given as COMMAND runs without `set -e`: chain its calls by &&.
step() {
    local text=$1 start=$SECONDS
    shift
    say "$text"
    "$@" || fail "$text"
    printf '    %s: %d s\n' "$text" $((SECONDS - start))
}
