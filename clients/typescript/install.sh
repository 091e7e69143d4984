# Sourced by the other scripts: installs what package-lock.json says, when
# that is not what is there.
installed=node_modules/.lock-of-this-installation
if ! cmp -s package-lock.json "$installed"; then
    echo "==> installing the packages of clients/typescript (compiles better-sqlite3: minutes, once)"
    npm ci --loglevel=error --no-audit --no-fund
    cp package-lock.json "$installed"
fi
