"""Probes of a server that gRPC's errors say too little about, and its certificate unverified."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

_PROBE_SECONDS = 3.0


async def speaks_tls(host: str, port: int) -> bool:
    """Return whether the server answers a TLS handshake. Nothing is sent over it."""
    try:
        async with _connected(host, port, _unverified()):
            return True
    except ssl.SSLError as error:
        # An alert is an answer in TLS, such as that of a server that wants a certificate.
        return "ALERT" in (error.reason or "")
    except (OSError, TimeoutError):
        return False


async def ends_after_handshake(host: str, port: int) -> bool:
    """Return whether the server ends a connection that is secured, before any HTTP/2.

    In TLS 1.3 the client's handshake succeeds before the server has checked its certificate. A
    server that accepts the client sends its HTTP/2 settings first. The probe presents no
    certificate and sends nothing.
    """
    is_secured = False
    try:
        async with _connected(host, port, _unverified()) as (reader, _):
            is_secured = True
            return not await reader.read(1)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except ConnectionError:
        return is_secured
    except (OSError, TimeoutError):
        return False


async def fetch_certificate(host: str, port: int) -> bytes:
    """Return the server's own certificate in DER, unverified.

    Raise OSError (ssl.SSLError, TimeoutError) when there is none.
    """
    async with _connected(host, port, _unverified()) as (_, writer):
        der = _ssl_object(writer).getpeercert(binary_form=True)
    if not der:
        raise ssl.SSLError("the server has no certificate")
    return der


async def names_of(host: str, port: int, pem: str) -> tuple[str, ...]:
    """Return the names in the server's certificate, which must be `pem` and valid today.

    Raise OSError like `fetch_certificate`. The `ssl` module shows the names only of certificates
    that it has verified, hence the second connection.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=pem)
    context.set_alpn_protocols(["h2"])
    async with _connected(host, port, context) as (_, writer):
        found: dict[str, Any] = _ssl_object(writer).getpeercert() or {}
    names = [value for kind, value in found.get("subjectAltName", ()) if kind == "DNS"]
    addresses = [value for kind, value in found.get("subjectAltName", ()) if kind == "IP Address"]
    subject = [pair for part in found.get("subject", ()) for pair in part]
    common = [value for key, value in subject if key == "commonName"]
    return (*names, *addresses, *common)


def _ssl_object(writer: asyncio.StreamWriter) -> ssl.SSLObject:
    found = writer.get_extra_info("ssl_object")
    assert isinstance(found, ssl.SSLObject)
    return found


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


@asynccontextmanager
async def _connected(
    host: str, port: int, context: ssl.SSLContext
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(_PROBE_SECONDS):
        reader, writer = await asyncio.open_connection(
            host, port, ssl=context, server_hostname=host
        )
        try:
            yield reader, writer
        finally:
            # Not close: that would wait for the server's half of the TLS shutdown.
            writer.transport.abort()
