#!/usr/bin/env bash
# Lints and tests the Go client: scripts/with-services.sh clients/go/test.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/steps.sh"

source clients/go/tools/install.sh
cd clients/go
modules=(. tests tools examples/orders)

formatted() {
    local wrong
    wrong=$(gofmt -l .) && [ -z "$wrong" ] || { echo "not formatted: $wrong"; return 1; }
}

# Documentation of names that users see; `go doc` renders it.
documented() {
    revive -config revive.toml -set_exit_status . ./eventstreamotel && go doc -all . >/dev/null &&
        go doc -all ./eventstreamotel >/dev/null
}

lint() {
    local module
    formatted && documented || return 1
    for module in "${modules[@]}"; do
        (cd "$module" && go mod verify >/dev/null && go vet ./... && staticcheck -checks inherit,ST1020,ST1021,ST1022 ./...) || return 1
    done
}

# Not through `step`: the summary is printed after a failure too.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
step "go: format, vet, staticcheck, documentation" lint
passed=yes
go test -race -count=1 -timeout 5m -v . ./eventstreamotel >"$log" 2>&1 || passed=no
go test -C tests -count=1 -timeout 5m -v ./... >>"$log" 2>&1 || passed=no
[ "$passed" = yes ] || cat "$log"
grep -E '^ok|^FAIL|^ *--- (FAIL|SKIP)' "$log" || true
count=$(grep -cE '^ *--- PASS' "$log" || true)
[ "$passed" = yes ] || fail "go test"
[ "$count" -gt 0 ] || fail "no test was executed"
say "go: $count tests passed"
