#!/usr/bin/env bash
# Generates src/futoin/evt/v1 from proto/. Running it again changes nothing.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

tools=$(environment generate)
src="$PWD/clients/python/src"
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT

(
    cd proto
    # Started by module: a script in a moved environment names its old place.
    printf '#!/bin/sh\nexec "%s/bin/python" -m mypy_protobuf.main\n' "$tools" >"$new/protoc-gen-mypy"
    sed 's/mypy_protobuf.main/generate_grpc/' "$new/protoc-gen-mypy" >"$new/protoc-gen-mypy_grpc"
    printf 'from mypy_protobuf.main import grpc\n\ngrpc()\n' >"$new/generate_grpc.py"
    chmod +x "$new"/protoc-gen-*
    mkdir "$new/out"
    PYTHONPATH="$new" "$tools/bin/python" -m grpc_tools.protoc -I. \
        --plugin="$new/protoc-gen-mypy" --plugin="$new/protoc-gen-mypy_grpc" \
        --python_out="$new/out" --grpc_python_out="$new/out" \
        --mypy_out="quiet:$new/out" --mypy_grpc_out="quiet:$new/out" \
        futoin/evt/v1/*.proto
)
# Messages need no file for gRPC.
rm -f "$new"/out/futoin/evt/v1/types_pb2_grpc.py*
touch "$new/out/futoin/evt/v1/py.typed"
rm -rf "$src/futoin"
mv "$new/out/futoin" "$src/futoin"
