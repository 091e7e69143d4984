"""Starts no service: asks the program whether it takes what a unit sets.

check-unit.py PROGRAM FILE...: the variables of these files, later ones first, with
credentials (`%d`) and files of /etc/eventstream laid out as the unit's own lines
say. What names a credential that is not handed over is a fault.
"""

import os
import subprocess
import sys

import manifests

SHARED = "/etc/eventstream"


def lines(paths, key):
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                name, _, value = line.strip().partition("=")
                if name == key:
                    yield value


def main():
    program, paths = sys.argv[1], sys.argv[2:]
    with manifests.workshop(program) as (home, secrets):
        handed = {}
        for value in lines(paths, "LoadCredential"):
            name, _, source = value.partition(":")
            assert source == f"{SHARED}/{name}", value
            handed[name] = "" if name == "eventstream.toml" else secrets.stand_in(name, ())
        shared = {name: secrets.stand_in(name, ()) for name in ("tls.crt", "tls.key", "users.toml")}
        for name, files in (("credentials", handed), ("shared", shared)):
            manifests.Volume(os.path.join(home, name)).put(files)
        environment = {}
        for value in lines(paths, "Environment"):
            name, _, text = value.partition("=")
            text = text.replace("%d", os.path.join(home, "credentials"))
            environment[name] = text.replace(SHARED, os.path.join(home, "shared"))
        done = subprocess.run([program, "check-config"], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


main()
