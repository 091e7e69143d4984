# Sourced by the other scripts: installs what package-lock.json says, when
# that is not what is there.
if [ ! -x /usr/bin/chromium ]; then
    echo 'FAILED: /usr/bin/chromium is missing: scripts/tools.sh installs it' >&2
    exit 1
fi
installed=node_modules/.lock-of-this-installation
if ! cmp -s package-lock.json "$installed"; then
    echo '==> installing the packages of tests/console'
    npm ci --loglevel=error --no-audit --no-fund
    cp package-lock.json "$installed"
fi
