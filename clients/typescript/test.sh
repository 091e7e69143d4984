#!/usr/bin/env bash
# Lints, builds, tests and documents the TypeScript client. Run as
# scripts/with-services.sh clients/typescript/test.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# Debian's Chromium, for the test of the browser; installing needs root.
if [ ! -x /usr/bin/chromium ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo 'FAILED: /usr/bin/chromium is missing; install it (Debian: apt-get install chromium) and repeat' >&2
        exit 1
    fi
    echo '==> installing chromium from Debian, because it is missing'
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
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
