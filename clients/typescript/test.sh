#!/usr/bin/env bash
# Lints, builds, tests and documents the TypeScript client. Run as
# scripts/with-services.sh clients/typescript/test.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [ ! -x /usr/bin/chromium ]; then
    echo 'FAILED: /usr/bin/chromium is missing: scripts/tools.sh installs it' >&2
    exit 1
fi
source ./install.sh
export PATH="$PWD/node_modules/.bin:$PATH"

rm -rf dist .build
tsc -p tsconfig.build.json
prettier --check --log-level warn .
eslint --max-warnings 0 .
typedoc --logLevel Warn
tsc -p tsconfig.test.json
node --test --test-timeout=300000 --test-reporter=spec .build/*.test.js
