#!/usr/bin/env bash
# Lints, builds and tests the client and the conformance cases:
# scripts/with-services.sh clients/rust/test.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
packages=(-p futoin-eventstream-client -p futoin-eventstream-client-generate -p eventstream-conformance -p orders)

cargo fmt --check "${packages[@]}"
cargo clippy --quiet --locked "${packages[@]}" --all-targets --all-features -- -D warnings
# Each feature alone: what one library needs must not come from another.
for feature in tls sqlx-sqlite sqlx-postgres sqlx-mysql tokio-postgres; do
    cargo check --quiet --locked -p futoin-eventstream-client --no-default-features --features "$feature"
done
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --no-deps -p futoin-eventstream-client --all-features
cargo test --locked -p futoin-eventstream-client -p eventstream-conformance --all-features
