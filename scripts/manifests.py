"""What a container of ours would find in a pod: its files and its variables.

Volumes are laid out below a directory as the kubelet does it, behind a link
`..data` that is exchanged when something changes. What a manifest takes from
Secrets and ConfigMaps that it does not bring along is made here: certificates of
an authority, users, keys of an issuer. No cluster is asked for anything.
"""

import base64
import contextlib
import json
import os
import subprocess
import tempfile
import time

import yaml

NAMES = ("events.example", "shop-eventstream.default.svc")
ISSUER = "https://issuer.example"
ACCOUNT = "system:serviceaccount:shop:web"


def documents(path):
    with open(path, encoding="utf-8") as file:
        return [document for document in yaml.safe_load_all(file) if document]


def containers(path):
    """Every container of ours, with its pod and all that is in the file."""
    every = documents(path)
    for document in every:
        if document["kind"] == "Deployment":
            pod = document["spec"]["template"]["spec"]
            for container in pod.get("initContainers", []) + pod["containers"]:
                if container["name"] == "eventstream":
                    yield pod, container, every


def _run(*words, given=None):
    return subprocess.run(words, input=given, capture_output=True, check=True).stdout


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _json(value):
    return _base64(json.dumps(value).encode())


class Secrets:
    """An authority, what it signed, an issuer of tokens, and users."""

    def __init__(self, program, home):
        self.program, self.home = program, home
        self.token, self.scraper = "the-token-of-the-shop", "the-token-of-prometheus"
        _run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-subj", "/CN=authority", "-days", "2", "-keyout", self.at("ca.key"), "-out", self.at("ca.crt"))
        self.sign("tls", "/CN=events", ",".join(f"DNS:{name}" for name in NAMES))
        self.sign("me", "/CN=shop", "DNS:shop.example")
        _run("openssl", "genrsa", "-out", self.at("issuer.key"), "2048")

    def at(self, name):
        return os.path.join(self.home, name)

    def text(self, name):
        with open(self.at(name), encoding="utf-8") as file:
            return file.read()

    def sign(self, name, subject, names):
        _run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-subj", subject, "-addext", f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:FALSE",
             "-days", "1", "-CA", self.at("ca.crt"), "-CAkey", self.at("ca.key"),
             "-keyout", self.at(f"{name}.key"), "-out", self.at(f"{name}.crt"))

    def keys(self):
        """The issuer's public key, as JWKS."""
        modulus = _run("openssl", "rsa", "-in", self.at("issuer.key"), "-noout", "-modulus")
        number = _base64(bytes.fromhex(modulus.decode().strip().removeprefix("Modulus=")))
        key = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", "n": number, "e": "AQAB"}
        return json.dumps({"keys": [key]})

    def signed_token(self):
        """A token as a service account has it."""
        claims = {"iss": ISSUER, "aud": ["eventstream"], "sub": ACCOUNT, "exp": int(time.time()) + 600}
        message = _json({"alg": "RS256", "kid": "1"}) + "." + _json(claims)
        signature = _run("openssl", "dgst", "-sha256", "-sign", self.at("issuer.key"), given=message.encode())
        return f"{message}.{_base64(signature)}"

    def hash(self, token):
        return _run(self.program, "token", "--of-stdin", given=token.encode()).decode().strip()

    def users(self, beside, token=None):
        """A file of users that makes use of the files beside it."""
        lines = ["[users.shop]", f'tokens = ["{self.hash(token or self.token)}"]', "observe = true"]
        lines += [f'token_files = ["{name}"]' for name in beside if name.startswith("tokens/")]
        lines += ['generate = ["*"]', 'consume = ["*"]', 'types = ["*"]']
        lines += ["[users.prometheus]", f'tokens = ["{self.hash(self.scraper)}"]', "observe = true"]
        if "jwks.json" in beside:
            lines += ["[issuers.cluster]", f'issuer = "{ISSUER}"', 'audiences = ["eventstream"]',
                      'keys = "jwks.json"', "[issuers.cluster.users]", f'"{ACCOUNT}" = "shop"']
        return "\n".join(lines) + "\n"

    def stand_in(self, path, beside):
        """What is found under this name in a volume."""
        if path == "client-ca.crt":
            return self.text("ca.crt")
        if path in ("tls.crt", "tls.key"):
            return self.text(path)
        if path == "users.toml":
            return self.users(beside)
        if path == "jwks.json":
            return self.keys()
        if path.startswith("tokens/"):
            return "another-token-of-the-shop\n"
        assert path == "users", f"what is {path}?"
        return "shop id=shop secret=a-long-enough-secret\n"


def _items(volume, every):
    """Paths in a volume, with their text where the manifests have it."""
    for source in volume.get("projected", {}).get("sources", [volume]):
        config = source.get("configMap")
        brought = [document["data"] for document in every
                   if config and document["kind"] == "ConfigMap" and document["metadata"]["name"] == config["name"]]
        for data in brought:
            yield from data.items()
        if not brought:
            given = config or source["secret"]
            yield from ((item["path"], None) for item in given.get("items", []))


class Volume:
    """A mounted directory; what is in it is exchanged as a whole."""

    def __init__(self, home):
        self.home, self.version = home, 0
        os.makedirs(home)

    def put(self, files):
        self.version += 1
        version = f"..{self.version}"
        for path, text in files.items():
            name = os.path.join(self.home, version, path)
            os.makedirs(os.path.dirname(name), exist_ok=True)
            with open(os.open(name, os.O_WRONLY | os.O_CREAT, 0o440), "w", encoding="utf-8") as file:
                file.write(text)
        self.link(version, "..data")
        for path in files:
            top = path.split("/")[0]
            if not os.path.lexists(os.path.join(self.home, top)):
                self.link(f"..data/{top}", top)

    def link(self, target, name):
        new = os.path.join(self.home, "..new")
        os.symlink(target, new)
        os.rename(new, os.path.join(self.home, name))


class Place:
    """Where a container runs: the files and the environment that it has."""

    def __init__(self, home, secrets, pod, container, every):
        os.makedirs(home)
        self.volumes, self.files, self.environment = {}, {}, {}
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            path = mount["mountPath"]
            given = dict(_items(volumes[mount["name"]], every))
            files = {name: text if text is not None else secrets.stand_in(name, given) for name, text in given.items()}
            self.volumes[path], self.files[path] = Volume(home + path), files
            self.volumes[path].put(files)
        for variable in container["env"]:
            value = variable.get("value")
            if value and any(value.startswith(path + "/") for path in self.volumes):
                value = home + value
            self.environment[variable["name"]] = value

    def change(self, path, **files):
        """Other text for files of one volume, by their names without an ending."""
        for name in self.files[path]:
            stem = name.split(".", maxsplit=1)[0]
            self.files[path][name] = files.get(stem, self.files[path][name])
        self.volumes[path].put(self.files[path])


@contextlib.contextmanager
def workshop(program):
    """A directory to lay out places in, and secrets for them."""
    with tempfile.TemporaryDirectory() as home:
        yield home, Secrets(program, home)
