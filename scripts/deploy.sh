#!/usr/bin/env bash
# Everything that judges deploy/ without a cluster: the chart with each of its
# ci/ values and the sidecar against the schemas of the supported versions of
# Kubernetes, the configurations in them by the program itself, and the unit.
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

render() {
    local values
    for values in "$chart"/ci/*-values.yaml; do
        helm lint --quiet --strict "$chart" --values "$values" &&
            helm template shop "$chart" --values "$values" --kube-version "${KUBERNETES[0]}" \
                --api-versions "$MONITORING" >"$work/$(basename "$values")" || return 1
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
    refused secretName &&
        refused 'insecure:' --set database.secretName=shop &&
        refused replicas --set database.secretName=shop,insecure=true,replicas=0 &&
        refused databse --set database.secretName=shop,insecure=true,databse.url=x
}

check_schemas() {
    local version
    for version in "${KUBERNETES[@]}"; do
        "$TOOLS/kubernetes/bin/python" -m kubernetes_validate --strict --quiet -k "$version" \
            deploy/kubernetes/*.yaml "$work"/*-values.yaml || return 1
    done
}

# Each container of ours as the manifests have it, with the file beside it.
check_configurations() {
    "$TOOLS/kubernetes/bin/python" scripts/check-manifests.py "$program" deploy/kubernetes/*.yaml "$work"/*-values.yaml
}

# Under another root, where the program and the users are; what is not of the
# unit (no network target there) is said, but no fault of it.
check_unit() {
    local unit=deploy/systemd/eventstream.service exposure
    mkdir -p "$work/root/etc/systemd/system" "$work/root/usr/local/bin"
    cp "$unit" "$work/root/etc/systemd/system/"
    install -m 755 /dev/null "$work/root/usr/local/bin/eventstream"
    systemd-analyze verify --root="$work/root" --recursive-errors=no eventstream.service || return 1
    exposure=$(systemd-analyze security --offline=true --threshold=15 "$unit") || return 1
    tail -n 1 <<<"$exposure"
}

step "the chart has the program's version" same_version
step "the chart renders with each of its values" render
step "the chart refuses what cannot work" refusals
step "schemas of Kubernetes ${KUBERNETES[0]} to ${KUBERNETES[-1]}" check_schemas
step "the program takes the configurations" check_configurations
step "the unit" check_unit
