#!/usr/bin/env bash
# Generates futoin/evt/v1 from proto/ with the plugins pinned in tools/go.mod.
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/steps.sh"

command -v buf >/dev/null || fail "buf is missing: scripts/tools.sh installs it"
source clients/go/tools/install.sh
rm -rf clients/go/futoin
(cd clients/go && buf generate ../../proto)
