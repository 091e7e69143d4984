#!/usr/bin/env bash
# recorder.sh ADDRESS COMPONENT [--count N] [--quiet]: see examples/recorder.rs.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
target=$(cargo metadata --format-version 1 --no-deps --locked --manifest-path "$here/Cargo.toml" |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
cargo build --quiet --release --locked --manifest-path "$here/Cargo.toml" --example recorder </dev/null
exec "$target/release/examples/recorder" "$@"
