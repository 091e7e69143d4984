#!/usr/bin/env bash
# The console in Chromium against the real program. Run as
# scripts/with-services.sh tests/console/test.sh.
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/steps.sh"

cd tests/console
source ./install.sh
node --test --test-timeout=300000 --test-reporter=spec *.test.js
