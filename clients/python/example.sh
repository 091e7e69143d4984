#!/usr/bin/env bash
# Tries what the README promises as a new user would: in an empty project, with
# the built package, by the README's own code, beside the service on SQLite.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

python="$(environment test)/bin/python"
here="$PWD/clients/python"
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT

# code NAME: the block of the README that is called NAME.
code() {
    awk -v mark="<!-- $1 -->" '$0 == mark { here = 1 } here && /^```$/ { exit } inside { print } here && /^```python/ { inside = 1 }' \
        "$here/README.md"
}

# expect TEXT FILE: the program's output has it.
expect() {
    grep -qF -- "$1" "$2" || { cat "$2"; fail "no '$1' in the output"; }
}

step "build the wheel" "$python" -m build --no-isolation --wheel --outdir "$project/dist" "$here" >/dev/null
cd "$project"
step "make a project" "$python" -m venv venv
python="$project/venv/bin/python"
step "install the wheel" "$python" -m pip install --quiet dist/*.whl sqlalchemy
for name in consume order; do
    code "$name.py" >"$name.py"
done
cp "$here"/examples/orders/*.py .

# The README has the defaults of a service at home, and names that anybody may use.
sed -i "s|http://127.0.0.1:50051|http://$TEST_SQLITE|; s|BILLING|P_BILLING|" consume.py
sed -i "s|eventstream.db|$TEST_SQLITE_DB|; s|ORDER_NEW|P_ORDER_NEW|" order.py
sed -i 's|ORDER_PLACED|P_ORDER_PLACED|' place.py ship.py

step "README: an event in a transaction" "$python" order.py
# It consumes for ever, so it is ended when it has shown the event.
mkfifo shown
"$python" -u consume.py >shown &
consumer=$!
say "README: a consumer"
timeout 30 grep -m 1 'P_ORDER_NEW .*tea' shown || fail "the consumer did not show the event"
kill "$consumer"
wait "$consumer" 2>/dev/null || true

say "example: place orders, ship them"
"$python" place.py "sqlite:///$TEST_SQLITE_DB" coffee | tee placed
"$python" place.py "sqlite:///$TEST_SQLITE_DB" "日本茶 🍵" | tee -a placed
timeout 30 "$python" ship.py "$TEST_SQLITE" 2 | tee shipped
expect "order 1 placed" placed
expect "order 1 shipped: coffee" shipped
expect "order 2 shipped: 日本茶 🍵" shipped
say "the README and the example work"
