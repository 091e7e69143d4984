#!/usr/bin/env bash
# with-services.sh COMMAND...: runs COMMAND beside a service on each engine.
#
# PostgreSQL and MariaDB are started in a temporary directory on ports of
# loopback that the system chooses, three services in front of them and of a
# SQLite file. COMMAND finds them in its environment:
#
#   TEST_EVENTSTREAM                        the program `eventstream`
#   TEST_SCRIPTED                           the program of clients/conformance
#   TEST_{SQLITE,POSTGRES,MYSQL}            gRPC address, host:port
#   TEST_{SQLITE,POSTGRES,MYSQL}_DB         path, or URL of the database
#   TEST_{SQLITE,POSTGRES,MYSQL}_HTTP       HTTP address, host:port
#
# Everything started here is ended here, by its process id.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

[ $# -gt 0 ] || fail "usage: scripts/with-services.sh COMMAND..."
home=$(mktemp -d "${TMPDIR:-/tmp}/services-XXXXXX")
chmod 755 "$home"
started=()

# In the reverse order of their start: services before their databases.
end_all() {
    local i
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do
        # A signal and a process id.
        # shellcheck disable=SC2086
        kill -s ${started[i]} 2>/dev/null || continue
        wait "${started[i]#* }" 2>/dev/null || true
    done
    rm -rf "$home"
}
trap end_all EXIT
trap 'exit 130' INT TERM

# The servers refuse to run as root.
as() {
    local user=$1
    shift
    if [ "$(id -u)" -eq 0 ]; then
        exec setpriv --reuid="$user" --regid="$user" --clear-groups "$@"
    fi
    exec "$@"
}

owned_by() {
    mkdir "$2"
    [ "$(id -u)" -ne 0 ] || chown "$1" "$2"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# await TEXT LOG COMMAND...: until COMMAND succeeds, half a minute at most.
await() {
    local text=$1 log=$2 i
    shift 2
    for ((i = 0; i < 300; i++)); do
        "$@" >"$home/await.log" 2>&1 && return
        sleep 0.1
    done
    tail -n 20 "$log" "$home/await.log" >&2
    fail "$text did not become ready"
}

start_postgres() {
    local bin data="$home/postgres" port
    bin=$(dirname "$(command -v initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' | tail -n 1)")
    port=$(free_port)
    owned_by postgres "$data"
    (as postgres "$bin/initdb" -D "$data" -A trust -U postgres --no-sync >/dev/null)
    # Two-phase commits and the connections of five languages at once.
    (as postgres "$bin/postgres" -D "$data" -p "$port" -k "$data" -c listen_addresses=127.0.0.1 \
        -c max_connections=200 -c max_prepared_transactions=20) >"$home/postgres.log" 2>&1 &
    started+=("INT $!")
    await PostgreSQL "$home/postgres.log" psql -h 127.0.0.1 -p "$port" -U postgres -c 'CREATE DATABASE shop'
    export TEST_POSTGRES_DB="postgres://postgres@127.0.0.1:$port/shop"
}

start_mariadb() {
    local data="$home/mariadb" port
    port=$(free_port)
    owned_by mysql "$data"
    (as mysql mariadb-install-db --no-defaults --datadir="$data" --auth-root-authentication-method=normal \
        --skip-test-db >/dev/null 2>&1)
    (as mysql /usr/sbin/mariadbd --no-defaults --datadir="$data" --socket="$data/socket" --port="$port" \
        --bind-address=127.0.0.1 --max-connections=200) >"$home/mariadb.log" 2>&1 &
    started+=("TERM $!")
    await MariaDB "$home/mariadb.log" mariadb --no-defaults -uroot -S "$data/socket" -e 'SELECT 1'
    mariadb --no-defaults -uroot -S "$data/socket" -e "
        CREATE DATABASE shop CHARACTER SET utf8mb4;
        INSTALL SONAME 'metadata_lock_info';
        CREATE USER app@'127.0.0.1' IDENTIFIED BY 'app';
        GRANT ALL ON *.* TO app@'127.0.0.1';"
    export TEST_MYSQL_DB="mysql://app:app@127.0.0.1:$port/shop"
}

# start_service NAME URL: its addresses are in its log.
start_service() {
    local name=$1 url=$2 log="$home/$1.log"
    "$TEST_EVENTSTREAM" serve --db "$url" --grpc 127.0.0.1:0 --http 127.0.0.1:0 --log-format json \
        >/dev/null 2>"$log" &
    started+=("TERM $!")
    await "the service on $name" "$log" grep -q '"message":"ready"' "$log"
    export "TEST_$name=$(address_in "$log" gRPC)"
    export "TEST_${name}_HTTP=$(address_in "$log" HTTP)"
}

address_in() {
    sed -n "s/.*\"message\":\"listening for $2\".*\"address\":\"\([^\"]*\)\".*/\1/p" "$1"
}

target=${CARGO_TARGET_DIR:-target}
export TEST_EVENTSTREAM=${TEST_EVENTSTREAM:-$(realpath "$target")/debug/eventstream}
export TEST_SCRIPTED=${TEST_SCRIPTED:-$(realpath "$target")/debug/scripted}
[ -x "$TEST_EVENTSTREAM" ] || fail "$TEST_EVENTSTREAM is missing: cargo build"
start_postgres
start_mariadb
export TEST_SQLITE_DB="$home/shop.db"
start_service SQLITE "sqlite:$TEST_SQLITE_DB"
start_service POSTGRES "$TEST_POSTGRES_DB"
start_service MYSQL "$TEST_MYSQL_DB"
"$@"
