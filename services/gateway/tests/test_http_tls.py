"""HTTPS of the gateway, and exchange of its certificate while it serves."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router

from sluice_common.security.tls.servers import ServerTls
from sluice_common.settings.security import Tls
from sluice_core.addresses import Address
from sluice_gateway.http.server import HttpOptions, bind, serving_http
from support.certificates import Authority, TlsPaths, write_tls

OLD, NEW = Authority(), Authority()


@pytest.fixture
def paths(tmp_path: Path) -> TlsPaths:
    return write_tls(tmp_path, OLD, OLD.issue())


@pytest.fixture
async def address(paths: TlsPaths) -> AsyncIterator[Address]:
    async def hello(_: Request) -> Response:
        return PlainTextResponse("hello")

    tls = ServerTls(Tls(cert_file=paths.cert, key_file=paths.key))
    listener = bind("SLUICE_GATEWAY_ADDRESS", Address("127.0.0.1", 0))
    found = Address("127.0.0.1", listener.getsockname()[1])
    app = Router([Route("/", hello)])
    async with serving_http(listener, app, HttpOptions(), tls.https_contexts()):
        yield found


async def fetch(address: Address, authority: Authority, **options: object) -> bytes:
    """Return the answer to a request on a connection of its own."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    for name, value in options.items():
        setattr(context, name, value)
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=context, server_hostname="127.0.0.1"
    )
    try:
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


async def test_https_is_served(address: Address) -> None:
    assert (await fetch(address, OLD)).endswith(b"hello")
    with pytest.raises(ssl.SSLCertVerificationError):
        await fetch(address, NEW)


async def test_old_versions_of_tls_are_refused(address: Address) -> None:
    with (
        pytest.warns(DeprecationWarning, match="TLSv1_1"),
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        await fetch(address, OLD, maximum_version=ssl.TLSVersion.TLSv1_1)


async def test_new_certificate_counts_with_the_next_handshake(
    address: Address, paths: TlsPaths
) -> None:
    assert (await fetch(address, OLD)).endswith(b"hello")
    NEW.issue().write(paths)
    async with asyncio.timeout(20):
        while True:
            try:
                answer = await fetch(address, NEW)
                break
            except ssl.SSLCertVerificationError:
                await asyncio.sleep(0.05)  # files are checked every now and then
    assert answer.endswith(b"hello")
    with pytest.raises(ssl.SSLCertVerificationError):
        await fetch(address, OLD)
