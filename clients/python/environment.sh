# Sourced: the repository's steps, and virtual environments by a lock file each.
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/steps.sh"

PYTHON="${PYTHON:-python3}"

# environment NAME: the path of the one with requirements/NAME.txt, made when it
# is missing. It appears in one move, complete.
environment() {
    local lock="clients/python/requirements/$1.txt" home
    home="$TOOLS/python-$1-$(cat "$lock" <("$PYTHON" --version) | sha256sum | cut -c1-12)"
    if [ ! -d "$home" ]; then
        say "installing $lock" >&2
        rm -rf "$home" "$home.part"
        "$PYTHON" -m venv "$home.part" >&2
        "$home.part/bin/python" -m pip install --quiet --require-hashes --no-deps -r "$lock" >&2
        mv "$home.part" "$home"
    fi
    echo "$home"
}

# The headers with which one of the tested drivers is built.
need_mariadb_config() {
    command -v mariadb_config >/dev/null && return
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "mariadb_config is missing; install it (Debian: apt-get install libmariadb-dev) and repeat"
    fi
    say "installing libmariadb-dev from Debian"
    apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libmariadb-dev >/dev/null
}
