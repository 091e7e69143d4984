"""Starts no service: asks the program whether it takes what manifests set.

check-manifests.py PROGRAM MANIFEST...: every container whose image is ours is checked
with its arguments and its environment by `check-config`; a variable that comes
from a Secret gets a URL. Deadlines, probes and what a container may do must
agree with what the program needs.
"""

import os
import subprocess
import sys
import tempfile

import yaml

URL = "postgres://shop:secret@postgres/shop"
SECONDS = "EVENTSTREAM_SHUTDOWN_DEADLINE"


def documents(paths):
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for document in yaml.safe_load_all(file):
                if document:
                    yield path, document


def check_config(program, container, files):
    with tempfile.TemporaryDirectory() as place:
        environment = {}
        for variable in container["env"]:
            environment[variable["name"]] = variable.get("value", URL)
        config = environment.get("EVENTSTREAM_CONFIG")
        if config:
            name = os.path.join(place, os.path.basename(config))
            with open(name, "w", encoding="utf-8") as file:
                file.write(files[os.path.basename(config)])
            environment["EVENTSTREAM_CONFIG"] = name
        if "EVENTSTREAM_FUTOIN_USERS_FILE" in environment:
            name = os.path.join(place, "users")
            with open(name, "w", encoding="utf-8") as file:
                file.write("shop id=1 secret=a-long-enough-secret\n")
            environment["EVENTSTREAM_FUTOIN_USERS_FILE"] = name
        assert container["args"][0] == "serve", container["args"]
        words = [program, "check-config", *container["args"][1:]]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return environment


def check_pod(pod, container, environment):
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
            program = [sys.argv[1], *command[1:], "--help"]
            subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
    assert container["resources"]["limits"]["memory"]


def main():
    program, paths = sys.argv[1], sys.argv[2:]
    files, checked = {}, 0
    for path, document in documents(paths):
        if document["kind"] == "ConfigMap":
            files[path] = document["data"]
    for path, document in documents(paths):
        if document["kind"] != "Deployment":
            continue
        pod = document["spec"]["template"]["spec"]
        for container in pod.get("initContainers", []) + pod["containers"]:
            if container["name"] == "eventstream":
                environment = check_config(program, container, files.get(path, {}))
                check_pod(pod, container, environment)
                checked += 1
    assert checked == len(paths), f"{checked} containers in {len(paths)} files"


main()
