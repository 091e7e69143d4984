#!/usr/bin/env bash
# Tries the package as a new user would: builds and installs it into an empty
# project, and runs README's code and examples/orders there, against the
# service on SQLite of scripts/with-services.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

: "${TEST_SQLITE:?run scripts/with-services.sh clients/typescript/example.sh}" "${TEST_SQLITE_DB:?}"
source ./install.sh
project=$(mktemp -d)
consumer=

end() {
    [ -z "$consumer" ] || kill -INT "$consumer" 2>/dev/null || true
    rm -rf "$project"
}
trap end EXIT

# The service is shared with other tests, so names are changed to own ones.
letters=$(tr -dc A-Z </dev/urandom | head -c 10 || true)
own() {
    sed -e "s|http://127.0.0.1:50051|http://$TEST_SQLITE|" -e "s|eventstream\.db|$TEST_SQLITE_DB|" \
        -e "s/'SHOP'/'T_$letters'/" -e "s/ORDER_NEW/T_$letters/" -e "s/ orders / t_$letters /" -e "s/'orders'/'t_r$letters'/"
}

# The code block of README.md that begins with the file's name.
from_readme() {
    awk -v first="// $1" '/^```/ { inside = 0 } inside { print } /^```js$/ { getline; inside = $0 == first }' README.md |
        own >"$project/$1"
    [ -s "$project/$1" ] || { echo "README.md has no $1" >&2; exit 1; }
}

# await_line FILE TEXT: until a line of the file has the text.
await_line() {
    local i
    for ((i = 0; i < 300; i++)); do
        grep -q "$2" "$1" && return
        sleep 0.1
    done
    cat "$1" >&2
    echo "no line with: $2" >&2
    exit 1
}

# begin FILE COMMAND...: in the background, its output in the file.
begin() {
    local output=$1
    shift
    : >"$output"
    (cd "$project" && exec "$@") >"$output" 2>&1 &
    consumer=$!
}

finish() {
    kill -INT "$consumer"
    wait "$consumer"
    consumer=
}

npm pack --silent --pack-destination "$project" >/dev/null
cp examples/orders/package.json "$project"
for program in place react; do
    own <"examples/orders/$program.js" >"$project/$program.js"
done
# better-sqlite3 takes minutes to compile where no built one can be had: its
# own is used again.
(cd "$project" && npm install --silent --no-audit --no-fund --prefer-offline --ignore-scripts ./futoin-eventstream-*.tgz)
cp -r node_modules/better-sqlite3/build "$project/node_modules/better-sqlite3/"

from_readme consumer.js
from_readme order.js
begin "$project/consumer.log" node consumer.js
(cd "$project" && node order.js)
await_line "$project/consumer.log" "T_$letters { order: 1, item: 'tea' }"
finish

begin "$project/react.log" node react.js "http://$TEST_SQLITE" "T_R$letters" "T_R$letters"
(cd "$project" && node place.js "sqlite:$TEST_SQLITE_DB" 'green tea' "T_R$letters")
await_line "$project/react.log" 'packing green tea for order'
finish
echo 'the code of README.md and examples/orders work in an empty project'
