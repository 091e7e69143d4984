#!/usr/bin/env bash
# Builds and tests the client: scripts/with-services.sh clients/rust/test.sh.
# Its lints are those of the workspace, scripts/lint.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# Each feature alone: what one library needs must not come from another.
for feature in tls sqlx-sqlite sqlx-postgres sqlx-mysql tokio-postgres; do
    cargo check --quiet --locked -p futoin-eventstream-client --no-default-features --features "$feature"
done
cargo test --locked -p futoin-eventstream-client -p eventstream-conformance --all-features
