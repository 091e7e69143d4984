"""Starts no service: asks the program whether it takes what manifests set.

check-manifests.py PROGRAM MANIFEST...: every container whose image is ours is checked
with its arguments, its environment and its files by `check-config`; a variable
that comes from a Secret gets a URL. Deadlines, probes and what a container may
do must agree with what the program needs.
"""

import os
import subprocess
import sys

import manifests

URL = "postgres://shop:secret@postgres/shop"
SECONDS = "EVENTSTREAM_SHUTDOWN_DEADLINE"


def check_config(program, container, place):
    environment = {name: URL if value is None else value for name, value in place.environment.items()}
    assert container["args"][0] == "serve", container["args"]
    words = [program, "check-config", *container["args"][1:]]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return environment


def check_pod(program, pod, container, environment):
    deadline = int(environment[SECONDS].removesuffix("s"))
    assert pod["terminationGracePeriodSeconds"] > deadline, "killed before the deadline"
    # Variables that Kubernetes makes of Services are faults of ours.
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    allowed = pod["securityContext"] | container["securityContext"]
    assert allowed["runAsNonRoot"] and allowed["runAsUser"] == 65532
    assert allowed["seccompProfile"] == {"type": "RuntimeDefault"}
    assert allowed["readOnlyRootFilesystem"] and not allowed["allowPrivilegeEscalation"]
    assert allowed["capabilities"] == {"drop": ["ALL"]}
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = container[probe].get("exec", {}).get("command")
        if command:
            # Wrong usage is 2 as well, so it is asked for its help.
            words = [program, *command[1:], "--help"]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    assert container["resources"]["limits"]["memory"]
    # A file that is mounted by itself is never renewed.
    assert not any("subPath" in mount for mount in container.get("volumeMounts", []))


def main():
    program, paths = sys.argv[1], sys.argv[2:]
    with manifests.workshop(program) as (home, secrets):
        for number, path in enumerate(paths):
            (found,) = manifests.containers(path)
            pod, container, every = found
            place = manifests.Place(os.path.join(home, str(number)), secrets, pod, container, every)
            check_pod(program, pod, container, check_config(program, container, place))


main()
