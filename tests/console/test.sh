#!/usr/bin/env bash
# The console in Chromium against the real program. Run as
# scripts/with-services.sh tests/console/test.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

source ./install.sh
node --test --test-timeout=300000 --test-reporter=spec *.test.js
