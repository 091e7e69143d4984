#!/usr/bin/env bash
# recorder.sh ADDRESS COMPONENT [--count N] [--quiet]: a reliable receiver that
# prints the id of each event. Ends in good order after N events or when its
# stdin closes, then tells on stderr how many there were in which time.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

tools=$(environment test)
export PYTHONPATH="$PWD/clients/python/src"
exec "$tools/bin/python" clients/python/tests/recorder.py "$@"
