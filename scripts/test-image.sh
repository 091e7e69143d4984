#!/usr/bin/env bash
# test-image.sh ARCHITECTURE=PROGRAM [EMULATOR]: makes the image of a static program twice
# and compares the digests; then starts the service from the unpacked image as
# its configuration says and drives it with the program that is in it.
#
# What a container engine does is done here by hand, for none is needed then:
# the layer as root directory, read-only; namespaces for mounts, processes and
# network; user 65532 without capabilities or a way to get some; a volume on
# /data. Cgroups and seccomp are not. With EMULATOR (the static qemu of another
# architecture) the program is run through it.
#
# Needs root, for the namespaces.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

[ $# -ge 1 ] || fail "usage: scripts/test-image.sh ARCHITECTURE=PROGRAM [EMULATOR]"
architecture=${1%%=*}
emulator=${2:-}
[ "$(id -u)" -eq 0 ] || fail "scripts/test-image.sh makes namespaces: run it as root"

# Once more, in namespaces of its own: they and all processes end with it.
if [ -z "${IN_NAMESPACES:-}" ]; then
    IN_NAMESPACES=yes exec unshare --mount --net --pid --fork --kill-child \
        --propagation private --mount-proc "$PWD/scripts/test-image.sh" "$@"
fi

work=$(mktemp -d)
service=
clean() {
    [ -z "$service" ] || { kill -KILL "$service" && wait "$service" || true; } 2>/dev/null
    umount --recursive --lazy "$work/root" 2>/dev/null || true
    rm -rf "$work"
}
trap clean EXIT
ip link set lo up

twice() {
    scripts/image.sh "$work/first" "$1" >"$work/first.said" &&
        scripts/image.sh "$work/second" "$1" >"$work/second.said" &&
        cmp "$work/first.said" "$work/second.said" && cat "$work/first.said"
}

blob() { echo "$work/first/$architecture/blobs/${1/://}"; }

of_config() { jq -r ".config.$1" "$config"; }

unpack() {
    local layer
    mkdir "$work/root" "$work/volume"
    jq -r '.layers[].digest' "$manifest" | while read -r layer; do
        tar -xzf "$(blob "$layer")" -C "$work/root" || return 1
    done
    find "$work/root" -type f -printf '%P\n' | sort >"$work/files"
    printf 'etc/ssl/certs/ca-certificates.crt\nusr/local/bin/eventstream\n' | cmp - "$work/files" ||
        fail "the image has other files than the program and the certificates"
}

# What an engine adds to a root directory, and then nobody may write there.
mount_all() {
    mkdir -p "$work/root/proc" "$work/root/dev" &&
        touch "$work/root/dev/null" &&
        if [ -n "$emulator" ]; then install -m 0555 "$emulator" "$work/root/dev/emulator"; fi &&
        chown --reference="$work/root/data" "$work/volume" &&
        mount --rbind "$work/root" "$work/root" &&
        mount -t proc proc "$work/root/proc" &&
        mount --bind /dev/null "$work/root/dev/null" &&
        mount --bind "$work/volume" "$work/root/data" &&
        mount -o remount,bind,ro "$work/root"
}

# in_image ARGUMENT...: becomes the image's entry point, with its user,
# environment and working directory; to be called in a subshell.
in_image() {
    local user environment entry
    user=$(of_config User)
    mapfile -t environment < <(of_config 'Env[]')
    mapfile -t entry < <(of_config 'Entrypoint[]')
    [ -z "$emulator" ] || entry=(/dev/emulator "${entry[@]}")
    exec env -i "${environment[@]}" "$(command -v setpriv)" --clear-groups --no-new-privs \
        "$(command -v unshare)" --root="$work/root" --wd="$(of_config WorkingDir)" \
        --setgid="${user#*:}" --setuid="${user%:*}" "${entry[@]}" "$@"
}

await_healthy() {
    local i
    for ((i = 0; i < 300; i++)); do
        (in_image healthcheck) >"$work/health" 2>&1 && return
        kill -0 "$service" 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/health" "$work/log" >&2
    return 1
}

expect() {
    local wanted=$1 said
    shift
    said=$("$@" 2>&1) || { echo "$said" >&2; return 1; }
    grep -qF -- "$wanted" <<<"$said" || { echo "$wanted is missing in: $said" >&2; return 1; }
}

starts() {
    local command
    mapfile -t command < <(of_config 'Cmd[]')
    in_image "${command[@]}" >"$work/log" 2>&1 &
    service=$!
    await_healthy
}

drives() {
    (in_image consumers register SHOP) >/dev/null &&
        expect '"id":"1"' in_image add ORDER_NEW '{"order":1}' --json &&
        expect '{"order":1}' in_image poll SHOP --json &&
        expect ORDER_NEW in_image tail SHOP --ack --count 1 &&
        expect '"frontier_id":"1"' in_image status --json
}

# As whom, and with how little, the kernel says.
is_confined() {
    local status=/proc/$service/status
    grep -qE $'^Uid:\t65532\t65532\t65532\t65532$' "$status" &&
        grep -qE $'^Gid:\t65532\t65532\t65532\t65532$' "$status" &&
        grep -qE $'^Groups:\t *$' "$status" &&
        grep -qE $'^CapEff:\t0+$' "$status" &&
        grep -qE $'^NoNewPrivs:\t1$' "$status" &&
        grep -qE ' / ro[, ]' "/proc/$service/mountinfo"
}

ends() {
    kill -s "$(of_config StopSignal)" "$service" && wait "$service" && service= &&
        test -s "$work/volume/eventstream.db"
}

step "two images of one program have one digest" twice "$1"
manifest=$(blob "$(jq -r '.manifests[0].digest' "$work/first/$architecture/index.json")")
config=$(blob "$(jq -r '.config.digest' "$manifest")")
step "nothing but the program and the certificates is in it" unpack
mount_all || fail "the root directory of the container"
say "$(in_image --version), of $(stat -c %s "$work/root/usr/local/bin/eventstream") bytes"
step "it starts as the image says" starts
step "nothing more is allowed to it than it needs" is_confined
step "it is driven by the program of the image" drives
step "it ends when told to, and the volume has the events" ends
