#!/usr/bin/env bash
# Lints, builds and tests the Python client, and builds its documentation.
# To be run beside the services: scripts/with-services.sh clients/python/test.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

step "libmariadb-dev, for mysqlclient" need_mariadb_config
tools=$(environment test)
cd clients/python
export PYTHONPATH="$PWD/src"

python() { "$tools/bin/python" "$@"; }

step "ruff format --check" python -m ruff format --quiet --check .
step "ruff check" python -m ruff check --quiet .
step "mypy --strict" python -m mypy --strict --no-error-summary -p futoin_eventstream
rm -rf dist docs
step "wheel and sdist" python -m build --no-isolation --outdir dist . >/dev/null
# pdoc takes the inherited keys of a TypedDict for its own, and says so.
step "pdoc" python -W error -W "ignore:Cannot determine where futoin_eventstream.ReceiverOptions" \
    -m pdoc --output-directory docs futoin_eventstream
say "pytest"
python -m pytest
