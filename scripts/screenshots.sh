#!/usr/bin/env bash
# Draws the pictures of the README anew, in docs/.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

draw() {
    (
        cd tests/console
        source ./install.sh
        node screenshots.js "$docs"
    )
}
docs="$PWD/docs"

if [ "${1:-}" = beside-services ]; then
    draw
    exit
fi
step "tools in .cache/tools" scripts/tools.sh
step "the program" cargo build --quiet --bin eventstream -p futoin-eventstream
step "pictures in docs" scripts/with-services.sh scripts/screenshots.sh beside-services
