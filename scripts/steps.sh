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

# python_environment HOME LOCK: a virtual environment by a lock file with
# hashes. It appears in one move, complete.
python_environment() {
    rm -rf "$1" "$1.part"
    python3 -m venv "$1.part" &&
        "$1.part/bin/python" -m pip install --quiet --require-hashes --no-deps -r "$2" &&
        mv "$1.part" "$1"
}
