#!/usr/bin/env bash
# static.sh [x86_64|aarch64]...: builds `eventstream` as a static program,
# linked with musl; x86_64 without an argument. Prints where each one is.
# It has the profile `dist`, which takes long to build; PROFILE=quick builds the
# one of the image's test.
#
# Nothing of this machine is in it: what names a path is cut from the source's
# root, so that two builds of one checkout are the same bytes.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

PROFILE=${PROFILE:-dist}
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")

# Paths as they are here, and what stands for them in the program.
paths=("$PWD=/eventstream" "$target_dir=/target" "${CARGO_HOME:-$HOME/.cargo}=/cargo")

# The C compiler of the other architecture is zig, from PyPI by a lock file.
# Rust's own name of the target is none of zig's.
with_zig() {
    local home="$TOOLS/zig-$1" lock=deploy/requirements/zig.txt from
    from="$TOOLS/zig-$(sha256sum "$lock" | cut -c1-12)"
    [ -d "$from" ] || python_environment "$from" "$lock"
    mkdir -p "$home"
    cat >"$home/cc" <<END
#!/usr/bin/env bash
for argument; do
    shift
    case \$argument in --target=*) ;; *) set -- "\$@" "\$argument" ;; esac
done
exec "$from/bin/python" -m ziglang cc -target $1-linux-musl -fno-sanitize=undefined "\$@"
END
    printf '#!/bin/sh\nexec "%s/bin/python" -m ziglang ar "$@"\n' "$from" >"$home/ar"
    chmod +x "$home/cc" "$home/ar"
}

build() {
    local target=$1-unknown-linux-musl flags=() cflags=() link=() path
    for path in "${paths[@]}"; do
        flags+=("--remap-path-prefix=$path")
        cflags+=("-ffile-prefix-map=$path")
    done
    # No C compiler of Debian makes programs for musl on another machine.
    if [ "$1" != x86_64 ]; then
        with_zig "$1"
        export "CC_${target//-/_}=$TOOLS/zig-$1/cc" "AR_${target//-/_}=$TOOLS/zig-$1/ar"
        flags+=("-Clinker=rust-lld")
    fi
    export "CFLAGS_${target//-/_}=${cflags[*]}"
    CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && echo "${flags[*]}")
    export CARGO_ENCODED_RUSTFLAGS
    rustup target add "$target" >/dev/null 2>&1 || fail "rustup cannot add the target $target"
    # Half a megabyte of relocations in a few kilobytes; musl reads them so.
    if [ "$1" = x86_64 ]; then
        link=(-Clink-arg=-Wl,-z,pack-relative-relocs)
    fi
    cargo rustc --quiet --locked --profile "$PROFILE" --bin eventstream --target "$target" -- "${link[@]}" &&
        echo "$target_dir/$target/$PROFILE/eventstream"
}

[ $# -gt 0 ] || set -- x86_64
for architecture in "$@"; do
    (build "$architecture") || fail "$architecture"
done
