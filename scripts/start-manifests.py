"""Starts the service as manifests say, and calls it.

start-manifests.py PROGRAM MANIFEST...: each container of ours is started with the
arguments, the environment and the files that it would have, on ports of
loopback and on SQLite. Its probes must succeed. With users, who shows no token
or calls without TLS or without a certificate that is required is refused, who
does as he should is served, and a changed file of users is taken as it runs.
"""

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

import manifests

PATIENCE = 30
USERS = "/etc/eventstream-users"


class Service:
    """A running container of ours."""

    def __init__(self, program, home, secrets, found):
        pod, self.container, every = found
        self.program, self.home, self.secrets = program, home, secrets
        self.place = manifests.Place(home, secrets, pod, self.container, every)
        self.addresses = {}

    def __enter__(self):
        environment = {name: value or f"sqlite:{self.home}/{name}" for name, value in self.place.environment.items()}
        environment |= {"EVENTSTREAM_GRPC": "127.0.0.1:0", "EVENTSTREAM_HTTP": "127.0.0.1:0"}
        words = [self.program, *self.container["args"]]
        self.process = subprocess.Popen(words, env=environment, cwd=self.home, text=True, stderr=subprocess.PIPE)
        said = []
        for line in self.process.stderr:
            said.append(line)
            entry = json.loads(line)
            if entry["message"].startswith("listening for "):
                self.addresses[entry["message"].split()[-1]] = entry["address"]
            if entry["message"] == "ready":
                assert "may read the private key" not in "".join(said), said
                return self
        raise AssertionError(f"it did not start: {''.join(said)}")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.communicate(timeout=PATIENCE)
        finally:
            self.process.kill()
        assert self.process.returncode == 0, self.process.returncode

    def uses(self, option):
        return bool(self.place.environment.get(f"EVENTSTREAM_{option}"))

    def call(self, *words, tls, token=None, certificate=False):
        """A command of the program, at this service; code and what it said."""
        address = self.addresses["gRPC"]
        environment = {"EVENTSTREAM_ADDR": f"https://{address}" if tls else address}
        if tls:
            environment |= {"EVENTSTREAM_TLS_CA": self.secrets.at("ca.crt"), "EVENTSTREAM_TLS_NAME": manifests.NAMES[0]}
        if certificate:
            environment |= {"EVENTSTREAM_TLS_CERT": self.secrets.at("me.crt"), "EVENTSTREAM_TLS_KEY": self.secrets.at("me.key")}
        if token:
            environment["EVENTSTREAM_TOKEN"] = token
        words = [self.program, *words]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        return done.returncode, done.stdout + done.stderr

    def get(self, scheme, path, token=None, ca=None):
        """Status of an HTTP path; without `ca` any certificate will do, as to the kubelet."""
        context = ssl.create_default_context(cafile=ca)
        context.check_hostname = False
        if not ca:
            context.verify_mode = ssl.CERT_NONE
        request = urllib.request.Request(f"{scheme}://{self.addresses['HTTP']}{path}")
        if token:
            request.add_header("authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code


def check_probes(service):
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = service.container[name]
        if "exec" in probe:
            code, said = service.call(*probe["exec"]["command"][1:], tls=service.uses("GRPC_TLS_CERT"))
            assert code == 0, f"{name}: {said}"
        else:
            get = probe["httpGet"]
            status = service.get(get.get("scheme", "HTTP").lower(), get["path"])
            assert status == 200, f"{name}: {status}"


def check_callers(service):
    """Who is served, and who is not."""
    tls, token = service.uses("GRPC_TLS_CERT"), service.secrets.token
    required = service.place.environment.get("EVENTSTREAM_GRPC_TLS_CLIENT_AUTH") == "required"
    served, refused = [{"token": token}], [({}, "UNAUTHENTICATED"), ({"token": "wrong"}, "UNAUTHENTICATED")]
    if not service.uses("AUTH_FILE"):
        served, refused = [{}], []
    if "jwks.json" in service.place.files.get(USERS, {}):
        served += [{"token": "another-token-of-the-shop"}, {"token": service.secrets.signed_token()}]
    for how in served:
        for words in (("add", "ORDER_NEW", "1"), ("status",)):
            code, said = service.call(*words, tls=tls, certificate=required, **how)
            assert code == 0, said
    for how, why in refused:
        code, said = service.call("add", "ORDER_NEW", "1", tls=tls, certificate=required, **how)
        assert code != 0 and why in said, said
    if tls:
        code, said = service.call("status", tls=False, token=token)
        assert code != 0, said
    if required:
        code, said = service.call("status", tls=True, token=token)
        assert code != 0, said


def check_metrics(service):
    tls, secrets = service.uses("HTTP_TLS_CERT"), service.secrets
    scheme, ca = ("https", secrets.at("ca.crt")) if tls else ("http", None)
    closed = service.uses("AUTH_FILE") and service.place.environment["EVENTSTREAM_HTTP_METRICS_OPEN"] == "false"
    status = service.get(scheme, "/metrics", ca=ca)
    assert status == (401 if closed else 200), status
    assert service.get(scheme, "/metrics", token=secrets.scraper, ca=ca) == 200


def check_change(service):
    """The kubelet exchanges the file of users for one with another token."""
    if not service.uses("AUTH_FILE"):
        return
    users = service.secrets.users(service.place.files[USERS], token="a-new-token")
    service.place.change(USERS, users=users)
    required = service.place.environment.get("EVENTSTREAM_GRPC_TLS_CLIENT_AUTH") == "required"
    begun = time.monotonic()
    while True:
        how = {"tls": service.uses("GRPC_TLS_CERT"), "certificate": required}
        code, said = service.call("status", token="a-new-token", **how)
        if code == 0:
            break
        assert time.monotonic() - begun < PATIENCE, said
        time.sleep(0.1)
    code, said = service.call("status", token=service.secrets.token, **how)
    assert code != 0 and "UNAUTHENTICATED" in said, said


def main():
    program, paths = sys.argv[1], sys.argv[2:]
    with manifests.workshop(program) as (home, secrets):
        for number, path in enumerate(paths):
            (found,) = manifests.containers(path)
            with Service(program, os.path.join(home, str(number)), secrets, found) as service:
                check_probes(service)
                check_callers(service)
                check_metrics(service)
                check_change(service)
            print(f"    {os.path.basename(path)}")


main()
