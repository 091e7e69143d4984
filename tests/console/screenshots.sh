#!/usr/bin/env bash
# Draws the pictures of the README anew, in docs/. Run as
# scripts/with-services.sh tests/console/screenshots.sh.
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/steps.sh"

command -v pngquant >/dev/null || fail "pngquant is missing: apt-get install pngquant"
cd tests/console
source ./install.sh
node screenshots.js ../../docs
pngquant --force --ext .png --strip --speed 1 96 ../../docs/console-*.png
