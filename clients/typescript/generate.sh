#!/usr/bin/env bash
# Generates src/gen from the contract, by the tools of package-lock.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

source ./install.sh
node_modules/.bin/buf generate
