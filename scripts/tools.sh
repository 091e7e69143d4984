#!/usr/bin/env bash
# Installs the tools that tests and lints need and that are missing.
#
# They live in .cache/tools, one directory per name and version, so a changed
# version below is installed beside the old one and nothing else is touched.
# `make clean-tools` removes them all.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

BUF=1.75.0
GRPCURL=1.9.3
CARGO_DENY=0.20.2
CARGO_FUZZ=0.13.2
HELM=3.22.0

mkdir -p "$TOOLS/bin"

# from_debian PROGRAM PACKAGE...: makes sure that PROGRAM is there.
from_debian() {
    local program=$1
    shift
    if command -v "$program" >/dev/null; then
        return
    fi
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "$program is missing; install it (Debian: apt-get install $*) and repeat"
    fi
    say "installing $* from Debian, because $program is missing"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    command -v "$program" >/dev/null || fail "$program is still missing after apt-get install $*"
}

# The same for a server that the package would start as a service: the tests
# start their own.
from_debian_without_service() {
    local policy=/usr/sbin/policy-rc.d ours=
    if [ "$(id -u)" -eq 0 ] && [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        ours=yes
    fi
    (
        [ -z "$ours" ] || trap 'rm -f "$policy"' EXIT
        from_debian "$@"
    )
}

# at_least PROGRAM VERSION FOUND: fails where a program is too old to go on with.
at_least() {
    [ "$(printf '%s\n' "$2" "$3" | sort -V | head -n 1)" = "$2" ] ||
        fail "$1 is ${3:-of unknown version}, the clients need $2 or later"
}

# A home appears in one move, when it is complete: an interrupted
# installation is done again.
adopt() {
    local home=$1 program=$2
    rm -rf "$home"
    mv "$home.part" "$home"
    ln -sfn "../$(basename "$home")/$program" "$TOOLS/bin/$(basename "$program")"
}

install_buf() {
    local home="$TOOLS/buf-$BUF"
    [ -d "$home" ] && return
    from_debian npm nodejs npm
    say "installing buf $BUF from npm"
    rm -rf "$home.part"
    npm install --silent --no-audit --no-fund --prefix "$home.part" "@bufbuild/buf@$BUF"
    adopt "$home" node_modules/.bin/buf
}

install_grpcurl() {
    local home="$TOOLS/grpcurl-$GRPCURL"
    [ -d "$home" ] && return
    from_debian go golang
    say "building grpcurl $GRPCURL with go (about a minute)"
    rm -rf "$home.part"
    GOBIN="$home.part" go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@v$GRPCURL"
    adopt "$home" grpcurl
}

# The original and its clients, by the lock file of their tests. One of its
# parts is compiled where no built one can be had.
install_futoin() {
    local lock=tests/futoin/package-lock.json home
    home="$TOOLS/futoin-$(sha256sum "$lock" | cut -c1-12)"
    if [ ! -d "$home" ]; then
        from_debian npm nodejs npm
        from_debian g++ g++ make
        say "installing the original's packages from npm (takes minutes, once)"
        rm -rf "$home.part"
        mkdir "$home.part"
        cp tests/futoin/package.json "$lock" "$home.part"
        npm ci --loglevel=error --no-audit --no-fund --prefix "$home.part"
        mv "$home.part" "$home"
    fi
    ln -sfn "$(basename "$home")" "$TOOLS/futoin"
}

install_cargo_deny() {
    local home="$TOOLS/cargo-deny-$CARGO_DENY"
    if [ "$(cargo deny --version 2>/dev/null)" = "cargo-deny $CARGO_DENY" ]; then
        return
    fi
    say "building cargo-deny $CARGO_DENY (takes minutes, once)"
    rm -rf "$home.part"
    cargo install --quiet --locked --root "$home.part" "cargo-deny@$CARGO_DENY"
    adopt "$home" bin/cargo-deny
}

install_cargo_fuzz() {
    local home="$TOOLS/cargo-fuzz-$CARGO_FUZZ"
    [ -d "$home" ] && return
    from_debian g++ g++
    say "building cargo-fuzz $CARGO_FUZZ (about a minute, once)"
    rm -rf "$home.part"
    cargo install --quiet --locked --root "$home.part" "cargo-fuzz@$CARGO_FUZZ"
    adopt "$home" bin/cargo-fuzz
}

install_helm() {
    local home="$TOOLS/helm-$HELM"
    [ -d "$home" ] && return
    from_debian go golang
    say "building helm $HELM with go (takes minutes, once)"
    rm -rf "$home.part"
    GOBIN="$home.part" go install -ldflags='-s -w' "helm.sh/helm/v3/cmd/helm@v$HELM"
    adopt "$home" helm
}

# What checks manifests against the schemas of Kubernetes, without a network.
install_kubernetes_validate() {
    local lock=deploy/requirements/kubernetes.txt home
    home="$TOOLS/kubernetes-$(cat "$lock" <(python3 --version) | sha256sum | cut -c1-12)"
    if [ ! -d "$home" ]; then
        say "installing $lock from PyPI"
        python_environment "$home" "$lock"
    fi
    ln -sfn "$(basename "$home")" "$TOOLS/kubernetes"
}

from_debian git git
from_debian sqlite3 sqlite3
from_debian python3 python3
from_debian openssl openssl
from_debian curl curl
# Debian keeps the server's programs out of PATH, where the tests look too.
if ! command -v initdb >/dev/null && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
    from_debian pg_ctlcluster postgresql
fi
# In /usr/sbin, which is in the PATH of root only.
[ -x /usr/sbin/pgbouncer ] || from_debian pgbouncer pgbouncer
# Three nodes of Galera run in one test; its library is beside the server.
if ! command -v /usr/sbin/mariadbd >/dev/null; then
    from_debian_without_service /usr/sbin/mariadbd mariadb-server
fi
if [ ! -e /usr/lib/galera/libgalera_smm.so ]; then
    from_debian_without_service galera_new_cluster galera-4
fi
from_debian rsync rsync
# Debian's package has promtool beside the server.
if ! command -v promtool >/dev/null || ! command -v prometheus >/dev/null; then
    from_debian_without_service promtool prometheus
fi
from_debian npm nodejs npm
at_least Node.js 20 "$(node --version | tr -d v)"
from_debian go golang
at_least Go 1.23 "$(go env GOVERSION | tr -d go)"
at_least Python 3.10 "$(python3 -c 'import platform; print(platform.python_version())')"
from_debian javac openjdk-17-jdk-headless
at_least Java 17 "$(javac -version 2>&1 | cut -d' ' -f2)"
from_debian mvn maven
from_debian chromium chromium
install_buf
install_grpcurl
install_futoin
install_cargo_deny
install_cargo_fuzz
from_debian buildah buildah
from_debian musl-gcc musl-tools
from_debian jq jq
from_debian ip iproute2
from_debian mariadb-backup mariadb-backup
from_debian systemd-analyze systemd
install_helm
install_kubernetes_validate
