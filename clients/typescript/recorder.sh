#!/usr/bin/env bash
# recorder.sh ADDRESS COMPONENT [--count N] [--quiet]: see test/recorder.ts.
# It runs what test.sh has built, and builds it when that is missing.
set -euo pipefail
home=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if [ ! -e "$home/.build/recorder.js" ] || [ ! -e "$home/dist/node.js" ]; then
    (cd "$home" && source ./install.sh && node_modules/.bin/tsc -p tsconfig.build.json &&
        node_modules/.bin/tsc -p tsconfig.test.json) >&2
fi
exec node "$home/.build/recorder.js" "$@"
