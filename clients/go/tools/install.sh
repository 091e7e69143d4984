#!/usr/bin/env bash
# Sourced with strict mode, in the repository's root: builds the tools pinned in
# clients/go/tools/go.mod where that is missing, and puts them into PATH.
go_tools="$PWD/.cache/tools/go-clients-$(cat clients/go/tools/go.* clients/go/tools/modzip/*.go | sha256sum | cut -c1-12)"
if [ ! -d "$go_tools" ]; then
    rm -rf "$go_tools.part"
    (cd clients/go/tools && GOBIN="$go_tools.part" GOFLAGS=-mod=readonly go install tool ./modzip)
    mv "$go_tools.part" "$go_tools"
fi
export PATH="$go_tools:$PATH"
