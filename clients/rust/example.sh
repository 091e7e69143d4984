#!/usr/bin/env bash
# As a new user would try it: packages the client, puts the README's code and
# examples/orders into an empty project, and runs them on the service of
# TEST_SQLITE and its file TEST_SQLITE_DB.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$(realpath ../..)
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

target=${CARGO_TARGET_DIR:-$root/target}
cargo package --quiet --locked --allow-dirty --no-verify
tar -xzf "$target/package/futoin-eventstream-client-0.1.0.crate" -C "$project"

mkdir -p "$project/orders"
cp -r examples/orders/Cargo.toml examples/orders/src "$project/orders"
cp "$root/Cargo.lock" "$root/rust-toolchain.toml" "$project/orders"
# Block 1 is the consumer, block 2 the producer; their places are the test's.
for block in 1 2; do
    awk -v want="$block" '/^```$/ { on = 0 } on; /^```rust,no_run$/ { on = ++count == want }' README.md |
        sed -e "s#http://localhost:50051#http://$TEST_SQLITE#" -e "s#sqlite:eventstream.db#sqlite:$TEST_SQLITE_DB#" \
            >"$project/orders/src/bin/readme$block.rs"
done
# Names of its own: other languages may try theirs on the same service.
sed -i -e 's/ORDER_NEW/R_ORDER_NEW/; s/"KITCHEN"/"R_KITCHEN"/; s/"BILLING"/"R_BILLING"/' \
    -e 's/\(EXISTS\|INTO\) orders/\1 orders_r_example/' "$project"/orders/src/bin/*.rs
sed -i -e 's#path = "../.."#path = "../futoin-eventstream-client-0.1.0"#' -e 's#"rt-multi-thread"\]#"rt-multi-thread", "signal"]#' \
    "$project/orders/Cargo.toml"
printf '\n[workspace]\n' >>"$project/orders/Cargo.toml"

cd "$project/orders"
export CARGO_TARGET_DIR="$target/example"
cargo build --quiet --offline
programs="$CARGO_TARGET_DIR/debug"

"$programs/shop" "sqlite:$TEST_SQLITE_DB" tea coffee
cooked=$(timeout 60 "$programs/kitchen" "http://$TEST_SQLITE" 2)
[ "$cooked" = $'cooking "tea"\ncooking "coffee"' ] || fail "the kitchen said: $cooked"

"$programs/readme2"
mkfifo lines
"$programs/readme1" >lines &
consumer=$!
# Held open to its end: it goes on printing.
exec 3<lines
line=
while [[ $line != *R_ORDER_NEW*tea* ]]; do
    read -t 60 -r line <&3 || fail "the consumer of the README said nothing of tea"
done
kill -INT "$consumer"
wait "$consumer" || fail "the consumer of the README ended with $?"
echo "the README's code and examples/orders work"
