#!/usr/bin/env bash
# example.sh: what a new user does. Installs the package, makes an empty project
# of README.md's two programs and of the example, and runs all four against the
# service TEST_SQLITE.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

project=$(mktemp -d "${TMPDIR:-/tmp}/java-example-XXXXXX")
started=()
end_all() {
    local pid
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || continue
        wait "$pid" || true
    done
    rm -rf "$project"
}
trap end_all EXIT

mvn --batch-mode --quiet -DskipTests install

# The programs of README.md, for this service and this database.
mkdir -p "$project/src/main/java"
for program in Consumer Producer; do
    awk -v program="$program" '/^```java/ { text = ""; inside = 1; next }
        /^```/ { if (inside && text ~ "class " program) printf "%s", text; inside = 0 }
        inside { text = text $0 "\n" }' README.md |
        sed -e "s|http://127.0.0.1:50051|http://$TEST_SQLITE|" -e "s|jdbc:sqlite:eventstream.db|jdbc:sqlite:$TEST_SQLITE_DB|" \
            >"$project/src/main/java/$program.java"
    [ -s "$project/src/main/java/$program.java" ] || fail "README.md has no program $program"
done
cp examples/orders/pom.xml "$project"
cp examples/orders/src/main/java/*.java "$project/src/main/java"

cd "$project"
mvn --batch-mode --quiet compile dependency:build-classpath -Dmdep.outputFile=classpath
java=(java -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "target/classes:$(cat classpath)")

# start NAME COMMAND...: in the background, its output in NAME.log.
start() {
    local name=$1
    shift
    "${java[@]}" "$@" >"$name.log" 2>&1 &
    started+=("$!")
}

# await NAME TEXT: until it is in NAME.log, half a minute at most.
await() {
    local i
    for ((i = 0; i < 300; i++)); do
        grep -q "$2" "$1.log" && return
        sleep 0.1
    done
    cat "$1.log" >&2
    fail "$1 did not print: $2"
}

start consumer Consumer
"${java[@]}" Producer
await consumer 'JAVA_NEW.*"order":1'
start shipping Shipping "http://$TEST_SQLITE"
"${java[@]}" Shop "jdbc:sqlite:$TEST_SQLITE_DB?busy_timeout=5000" tea nothing coffee
await shipping 'ship coffee'
[ "$(grep -c '^ship' shipping.log)" = 2 ] || fail "$(cat shipping.log)"
grep -q 'ship nothing' shipping.log && fail 'what was rolled back was shipped'
echo "the programs of README.md and the example work"
