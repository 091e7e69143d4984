"""TLS, Unix sockets and tokens, with the real service behind a relay."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from databases import SQLITE

from futoin_eventstream import Backoff, EventStream, ServiceError, Tls
from futoin_eventstream.connection import Connection, Token

_CONFIG = """
[req]
distinguished_name = name
prompt = no
x509_extensions = extensions
[name]
CN = localhost
[extensions]
subjectAltName = DNS:localhost
basicConstraints = CA:TRUE
"""


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of localhost that trusts itself, and its key."""
    config, key, certificate = tmp_path / "config", tmp_path / "key.pem", tmp_path / "certificate.pem"
    config.write_text(_CONFIG)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-config", config]  # noqa: RUF005
        + ["-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    return certificate, key


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    host, port = SQLITE.service.rsplit(":", 1)
    service_reader, service_writer = await asyncio.open_connection(host, int(port))
    await asyncio.gather(_pipe(reader, service_writer), _pipe(service_reader, writer))


@asynccontextmanager
async def tls_relay(certificate: tuple[Path, Path], *, asks_for_client: bool) -> AsyncIterator[str]:
    """The service behind TLS; gives its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.set_alpn_protocols(["h2"])
    if asks_for_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificate[0])
    server = await asyncio.start_server(_relay, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


async def head(address: str, **options: Any) -> int:
    async with EventStream(address, timeout=timedelta(seconds=5), **options) as stream:
        return (await stream.add_event("P_CONNECT", 1)) and (await stream.status()).head_id


async def test_tls_with_its_own_authority(certificate: tuple[Path, Path]) -> None:
    async with tls_relay(certificate, asks_for_client=False) as address:
        assert await head(address, tls=Tls(ca=certificate[0])) > 0


async def test_tls_of_an_unknown_authority_is_refused(certificate: tuple[Path, Path]) -> None:
    async with tls_relay(certificate, asks_for_client=False) as address:
        with pytest.raises(ServiceError, match="UNAVAILABLE"):
            await head(address)


async def test_tls_with_a_client_certificate(certificate: tuple[Path, Path]) -> None:
    mine, key = certificate
    async with tls_relay(certificate, asks_for_client=True) as address:
        assert await head(address, tls=Tls(ca=mine, certificate=mine, key=key)) > 0
        with pytest.raises(ServiceError, match="UNAVAILABLE"):
            await head(address, tls=Tls(ca=mine))


async def test_unix_socket(tmp_path: Path) -> None:
    server = await asyncio.start_unix_server(_relay, tmp_path / "socket")
    async with server:
        assert await head(f"unix:{tmp_path / 'socket'}") > 0


async def test_addresses_of_http() -> None:
    assert await head(f"http://{SQLITE.service}/") > 0


@pytest.mark.parametrize("address", ["ftp://host:1", "grpc://host"])
async def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="address: "):
        await head(address)


async def test_tls_needs_its_address() -> None:
    with pytest.raises(ValueError, match="tls needs https://"):
        await head(f"http://{SQLITE.service}", tls=Tls())


async def asynchronous() -> str:
    return "later"


@pytest.mark.parametrize(
    ("token", "sent"),
    [(None, None), ("fixed", "fixed"), (lambda: "called", "called"), (asynchronous, "later")],
)
async def test_tokens(token: Token | None, sent: str | None) -> None:
    connection = Connection(SQLITE.service, tls=None, token=token, backoff=Backoff())
    assert await connection.metadata() == ((("authorization", f"Bearer {sent}"),) if sent else ())
    await connection.close()
    assert await head(SQLITE.service, token=token) > 0
