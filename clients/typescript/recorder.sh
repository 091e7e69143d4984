#!/usr/bin/env bash
# recorder.sh ADDRESS COMPONENT [--count N] [--quiet]: see test/recorder.ts.
# Builds it first when it is not up to date.
set -euo pipefail
home=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

built="$home/.build/recorder.js"
cd "$home"
if [ ! -e dist/node.js ] || [ ! -e "$built" ] || [ -n "$(find src test -newer "$built" -print -quit)" ]; then
    {
        source ./install.sh
        node_modules/.bin/tsc -p tsconfig.build.json
        node_modules/.bin/tsc -p tsconfig.test.json
    } >&2
fi
exec node "$built" "$@"
