#!/usr/bin/env bash
# Generates src/proto from the contract. Its tools are those of Cargo.lock.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
cargo run --quiet --locked -p futoin-eventstream-client-generate -- ../../proto src/proto
