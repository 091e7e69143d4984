#!/usr/bin/env bash
# Everything that judges deploy/ without a cluster: the chart with each of its
# ci/ values and the sidecar, for the supported versions of Kubernetes, against
# their schemas; the configurations in them by the program itself, which is then
# started with their files and called; and the unit.
source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

# The first that has native sidecars, to the newest whose schemas there are.
KUBERNETES=(1.29 1.30 1.31 1.32 1.33 1.34 1.35 1.36 1.37)
# Prometheus' operator is no part of Kubernetes: its objects are not checked.
MONITORING=monitoring.coreos.com/v1

chart=deploy/helm/eventstream
program=$(realpath "${CARGO_TARGET_DIR:-target}/debug/eventstream")
[ -x "$program" ] || fail "$program is missing: cargo build"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

same_version() {
    local ours
    ours=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
    grep -qx "version: $ours" "$chart/Chart.yaml" &&
        grep -qx "appVersion: $ours" "$chart/Chart.yaml"
}

# For each version once: a template may ask for it.
render() {
    local version values
    for values in "$chart"/ci/*-values.yaml; do
        helm lint --quiet --strict "$chart" --values "$values" || return 1
        for version in "${KUBERNETES[@]}"; do
            mkdir -p "$work/$version"
            helm template shop "$chart" --values "$values" --kube-version "$version" \
                --api-versions "$MONITORING" >"$work/$version/$(basename "$values")" || return 1
        done
    done
}

# refused TEXT ARGUMENT...: values that must not pass, and why.
refused() {
    local text=$1 said
    shift
    if said=$(helm template shop "$chart" --kube-version "${KUBERNETES[0]}" "$@" 2>&1); then
        echo "rendered: $*" >&2
        return 1
    fi
    grep -qF -- "$text" <<<"$said" || { echo "$text is missing in: $said" >&2; return 1; }
}

refusals() {
    local database=database.secretName=shop
    local least=$database,users.secretName=users,tls.grpc.secretName=tls,tls.http.secretName=tls
    refused secretName &&
        refused 'set users.secretName, tls.grpc.secretName, tls.http.secretName, or insecure=true' --set "$database" &&
        refused 'set tls.http.secretName, or' --set "$least,tls.http.secretName=" &&
        refused 'set users.secretName, or' --set "$least,users.secretName=" &&
        refused 'without users.secretName' --set "$database,insecure=true,users.files[0].secretName=x" \
            --set 'users.files[0].key=x,users.files[0].path=x' &&
        refused 'tls.grpc.clientCa' --set "$database,insecure=true,tls.grpc.clientCa.secretName=x" &&
        refused clientCa --set "$least,tls.grpc.clientCa.secretName=x,tls.grpc.clientCa.configMapName=x" &&
        refused path --set "$least,users.files[0].secretName=x,users.files[0].key=x,users.files[0].path=../x" &&
        refused 'serviceMonitor.token' --set "$least,metrics.serviceMonitor.enabled=true" &&
        refused replicas --set "$least,replicas=0" &&
        refused databse --set "$least,databse.url=x"
}

# What has no schema is said, and is a fault unless it is the operator's.
check_schemas() {
    local version said
    for version in "${KUBERNETES[@]}"; do
        said=$("$TOOLS/kubernetes/bin/python" -m kubernetes_validate --strict --quiet -k "$version" \
            deploy/kubernetes/*.yaml "$work/$version"/*-values.yaml 2>&1) || { echo "$said" >&2; return 1; }
        if grep -vF "ServiceMonitor with api version $MONITORING" <<<"$said" | grep . >&2; then
            return 1
        fi
    done
}

# ask SCRIPT: each container of ours as the manifests have it.
ask() {
    "$TOOLS/kubernetes/bin/python" -B "$1" "$program" deploy/kubernetes/*.yaml "$work/${KUBERNETES[-1]}"/*-values.yaml
}

# Under another root, where the program and the users are; what is not of the
# unit (no network target there) is said, but no fault of it. By itself, and
# with each of the files that give it keys and users.
check_unit() {
    local unit=deploy/systemd/eventstream.service exposure root more
    for more in '' deploy/systemd/*.conf; do
        root=$work/root/$(basename "$more")
        mkdir -p "$root/etc/systemd/system/eventstream.service.d" "$root/usr/local/bin"
        cp "$unit" "$root/etc/systemd/system/"
        [ -z "$more" ] || cp "$more" "$root/etc/systemd/system/eventstream.service.d/"
        install -m 755 /dev/null "$root/usr/local/bin/eventstream"
        systemd-analyze verify --root="$root" --recursive-errors=no eventstream.service || return 1
        "$TOOLS/kubernetes/bin/python" -B scripts/check-unit.py "$program" "$unit" ${more:+"$more"} || return 1
    done
    exposure=$(systemd-analyze security --offline=true --threshold=15 "$unit") || return 1
    tail -n 1 <<<"$exposure"
}

step "the chart has the program's version" same_version
step "the chart renders with each of its values" render
step "the chart refuses what cannot work, and what is open by mistake" refusals
step "schemas of Kubernetes ${KUBERNETES[0]} to ${KUBERNETES[-1]}" check_schemas
step "the program takes the configurations" ask scripts/check-manifests.py
step "the service starts with them, and serves whom it should" ask scripts/start-manifests.py
step "the unit" check_unit
