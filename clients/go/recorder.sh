#!/usr/bin/env bash
# recorder.sh ADDRESS COMPONENT [--count N] [--quiet]: a reliable receiver that
# prints the id of each event it handled, a line each, until N events were
# handled or stdin closes; then {"events": N, "seconds": S} on stderr.
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/steps.sh"

mkdir -p .cache/clients
go build -C clients/go -o "$PWD/.cache/clients/go-recorder" ./internal/recorder
exec .cache/clients/go-recorder "$@"
