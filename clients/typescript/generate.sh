#!/usr/bin/env bash
# Generates src/gen from proto/, by the plugin of package-lock.json.
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/steps.sh"

command -v buf >/dev/null || fail "buf is missing: scripts/tools.sh installs it"
cd clients/typescript
source ./install.sh
buf generate
