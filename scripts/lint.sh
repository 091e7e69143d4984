#!/usr/bin/env bash
# Everything that judges the code without running it.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

# The advisory database is a git repository on the network, and the one that
# cargo audit reads: one tool is enough. It is fetched at most once a day. Where
# it cannot be, one that is there is read (cargo deny refuses one of more than 90
# days); if there is none, that is said, not silently passed over.
check_advisories() {
    local fetched="$TOOLS/advisories-fetched"
    local there="${CARGO_HOME:-$HOME/.cargo}/advisory-dbs"
    if [ -z "$(find "$fetched" -mmin -1440 2>/dev/null)" ]; then
        if GIT_TERMINAL_PROMPT=0 timeout 60 cargo deny fetch db >/dev/null 2>&1; then
            touch "$fetched"
        elif [ -n "$(find "$there" -maxdepth 1 -type d -name 'advisory-db-*' 2>/dev/null)" ]; then
            say "advisories: their database cannot be reached, the one of an earlier day is read"
        else
            say "advisories NOT checked: their database cannot be reached"
            return
        fi
    fi
    step "cargo deny check advisories" \
        cargo deny --log-level error check --disable-fetch advisories
}

# The contract as it was: where this branch left main, or on main the commit
# before. Prints nothing when there is none.
earlier_contract() {
    local head base
    head=$(git rev-parse --verify --quiet HEAD) || return 0
    base=$(git merge-base HEAD origin/main 2>/dev/null || git merge-base HEAD main 2>/dev/null || true)
    if [ -z "$base" ] || [ "$base" = "$head" ]; then
        base=$(git rev-parse --verify --quiet HEAD~1) || return 0
    fi
    if git cat-file -e "$base:proto/buf.yaml" 2>/dev/null; then
        echo "$base"
    fi
}

# Exported rather than read by buf itself: its git input wants a clone, which
# a linked worktree or a shallow checkout is not.
check_breaking() {
    git archive "$1" proto | tar -x -C "$before" && buf breaking proto --against "$before/proto"
}

step "cargo fmt --check" cargo fmt --all --check
step "cargo clippy" cargo clippy --quiet --workspace --all-targets --all-features -- -D warnings
RUSTDOCFLAGS="-D warnings" step "cargo doc" cargo doc --quiet --workspace --no-deps --all-features
step "cargo deny check bans licenses sources" \
    cargo deny --log-level error --all-features check bans licenses sources
check_advisories
step "buf lint" buf lint proto
base=$(earlier_contract)
if [ -n "$base" ]; then
    before=$(mktemp -d)
    trap 'rm -rf "$before"' EXIT
    step "buf breaking against ${base:0:12}" check_breaking "$base"
else
    say "buf breaking: no earlier contract to compare with"
fi
