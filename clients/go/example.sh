#!/usr/bin/env bash
# Tries the package as a new user would: packs it, installs it in empty projects
# and runs the README's programs and examples/orders there, against TEST_SQLITE.
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/steps.sh"

: "${TEST_SQLITE:?run this through scripts/with-services.sh}" "${TEST_SQLITE_DB:?}"
source clients/go/tools/install.sh
source=$PWD/clients/go
home=$(mktemp -d)
receiver=
end() {
    [ -z "$receiver" ] || kill "$receiver" 2>/dev/null || true
    rm -rf "$home"
}
trap end EXIT

# A module cache of its own, filled from the usual one where that has a module.
# It stays, as SQLite would be compiled anew for another place; our module goes.
known=$(go env GOMODCACHE)/cache/download
export GOPROXY="file://$home/proxy,file://$known,$(go env GOPROXY)"
export GOMODCACHE="$TOOLS/go-example-modules" GONOSUMDB='github.com/futoin/*' GOFLAGS=-modcacherw
rm -rf "$GOMODCACHE"/{,cache/download/}github.com/futoin
driver=$(awk '$1 == "github.com/mattn/go-sqlite3" { print $2 }' "$source/tests/go.mod")

# own_names TABLE FILE...: names of this run's own, as the services are shared.
own_names() {
    local table=$1
    shift
    sed -i -e 's/"BILLING"/"G_EXAMPLE"/; s/"ORDER_NEW"/"GO_ORDER_NEW"/; s/\(INTO\|EXISTS\) orders/\1 '"$table/" \
        -e "s|http://127.0.0.1:50051|http://$TEST_SQLITE|; s|file:eventstream.db|file:$TEST_SQLITE_DB|" "$@"
}

# readme NAME: the program below <!-- NAME -->.
readme() {
    sed -n "/^<!-- $1 -->/,/^\`\`\`\$/{/^<!--/d;/^\`\`\`/d;p}" "$source/README.md"
}

# receive COMMAND...: starts it, with its output as file 3.
receive() {
    exec 3< <(exec "$@" 2>&1)
    receiver=$!
}

# expect TEXT: the receiver prints a line with it.
expect() {
    local line
    while read -r -t 60 -u 3 line; do
        echo "    $line"
        [[ $line != *"$1"* ]] || return 0
    done
    fail "the receiver has not printed: $1"
}

modzip "$source" v0.1.0 "$home/proxy"

say "the README's programs in an empty project"
mkdir -p "$home/readme/consumer" "$home/readme/producer"
cd "$home/readme"
readme consumer >consumer/main.go
readme producer >producer/main.go
own_names go_readme ./*/main.go
go mod init example.org/readme
go get github.com/futoin/eventstream-rs/clients/go@v0.1.0 "github.com/mattn/go-sqlite3@$driver"
go build -o "$home/bin/" ./consumer ./producer
receive "$home/bin/consumer"
"$home/bin/producer"
expect 'GO_ORDER_NEW {"item":"tea"}'
kill "$receiver"

say "examples/orders with the package installed"
cp -r "$source/examples/orders" "$home/orders"
cd "$home/orders"
own_names go_example ./*/*.go
go mod edit -dropreplace github.com/futoin/eventstream-rs/clients/go
go get github.com/futoin/eventstream-rs/clients/go@v0.1.0
go build -o "$home/bin/" ./order ./billing
receive "$home/bin/billing" "http://$TEST_SQLITE"
number=$(date +%s)
"$home/bin/order" "sqlite:$TEST_SQLITE_DB" "$number" teapot
expect "invoice for order $number: teapot"
kill -INT "$receiver"
expect closed
say "the package works as installed"
