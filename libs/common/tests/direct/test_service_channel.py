"""Channels between services: TLS, verified names, rotation without dropped calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from sluice_common.direct.channel import open_service_channel
from sluice_common.direct.rotating_channel import RotatingChannel
from sluice_common.settings.security import Tls
from sluice_core.configuration import ConfigurationError
from support.certificates import Authority, TlsPaths, replace, write_tls
from support.waiting import until

SECONDS = 20.0
CHECK_SECONDS = 0.01
METHOD = "/test.Peer/Names"
AUTHORITY = Authority()


@asynccontextmanager
async def server(authorities: bytes = AUTHORITY.pem, **names: Any) -> AsyncIterator[str]:
    """Serve a stream that answers every message with the URI in the client's certificate."""

    async def stream(_requests: object, context: Any) -> None:
        while (await context.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            (uri,) = context.auth_context().get("peer_uri", (b"",))
            await context.write(uri)

    running = grpc.aio.server()
    handlers = {"Names": grpc.stream_stream_rpc_method_handler(stream)}
    running.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Peer", handlers),))
    issued = AUTHORITY.issue(**names)
    credentials = grpc.ssl_server_credentials(
        [(issued.key, issued.cert)], authorities, require_client_auth=True
    )
    port = running.add_secure_port("127.0.0.1:0", credentials)
    await running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await running.stop(None)


def client_files(folder: Path, uri: str, trusted: Authority = AUTHORITY) -> TlsPaths:
    return write_tls(folder, trusted, AUTHORITY.issue(uris=[uri]))


def settings(paths: TlsPaths) -> Tls:
    return Tls(cert_file=paths.cert, key_file=paths.key, ca_file=paths.ca)


def open_call(channel: grpc.aio.Channel) -> Any:
    method: Any = channel.stream_stream(METHOD, None, None)
    return method()


async def name_seen(call: Any) -> str:
    async with asyncio.timeout(SECONDS):
        await call.write(b"?")
        return bytes(await call.read()).decode()


async def details_of_refusal(target: str, tls: Tls) -> str:
    async with open_service_channel(target, tls) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await name_seen(open_call(channel))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(caught.value.details())


async def test_call_shows_the_certificate_of_this_service(tmp_path: Path) -> None:
    paths = client_files(tmp_path, "spiffe://cluster/one")
    async with server() as target, open_service_channel(target, settings(paths)) as channel:
        assert await name_seen(open_call(channel)) == "spiffe://cluster/one"


async def test_untrusted_server_is_refused(tmp_path: Path) -> None:
    paths = client_files(tmp_path, "spiffe://cluster/one", trusted=Authority("another"))
    async with server() as target:
        assert "CERTIFICATE_VERIFY_FAILED" in await details_of_refusal(target, settings(paths))


async def test_server_with_another_name_is_refused(tmp_path: Path) -> None:
    paths = client_files(tmp_path, "spiffe://cluster/one")
    async with server(ips=(), dns=["elsewhere"]) as target:
        assert "127.0.0.1" in await details_of_refusal(target, settings(paths))


async def test_unusable_files_are_a_configuration_error(tmp_path: Path) -> None:
    paths = client_files(tmp_path, "spiffe://cluster/one")
    paths.ca.unlink()
    with pytest.raises(ConfigurationError, match="SLUICE_TLS__CA_FILE: the file cannot be read"):
        async with open_service_channel("127.0.0.1:1", settings(paths)):
            pass


async def test_without_tls_settings_calls_are_plaintext() -> None:
    async with open_service_channel("127.0.0.1:1", Tls()) as channel:
        assert isinstance(channel, grpc.aio.Channel)
    assert not Tls().secures_calls


async def test_new_files_serve_new_calls_and_drop_none(tmp_path: Path) -> None:
    """A stream outlives any number of rotations; each later one shows the newest certificate."""
    paths = client_files(tmp_path, "spiffe://cluster/0")
    async with (
        server() as target,
        open_service_channel(target, settings(paths), CHECK_SECONDS) as channel,
    ):
        rotating: Any = channel
        assert isinstance(rotating, RotatingChannel)
        oldest = open_call(channel)
        assert await name_seen(oldest) == "spiffe://cluster/0"
        for number in range(1, 6):
            name = f"spiffe://cluster/{number}"
            before = rotating.generation
            AUTHORITY.issue(uris=[name]).write(paths)
            await until_rotated(rotating, before)
            call = open_call(channel)
            assert await name_seen(call) == name
            assert await name_seen(oldest) == "spiffe://cluster/0"
            await finish(call)
        # Only the channel of the stream in progress is left beside the newest one.
        await until(lambda: len(rotating._retired) == 1, SECONDS, "channels are closed")
        await finish(oldest)
        await until(lambda: not rotating._retired, SECONDS, "the oldest is closed")


async def test_new_authority_is_trusted_after_rotation(tmp_path: Path) -> None:
    paths = client_files(tmp_path, "spiffe://cluster/one", trusted=Authority("another"))
    async with (
        server() as target,
        open_service_channel(target, settings(paths), CHECK_SECONDS) as channel,
    ):
        rotating: Any = channel
        with pytest.raises(grpc.aio.AioRpcError):
            await name_seen(open_call(channel))
        before = rotating.generation
        replace(paths.ca, AUTHORITY.pem)
        await until_rotated(rotating, before)
        assert await name_seen(open_call(channel)) == "spiffe://cluster/one"


async def until_rotated(rotating: RotatingChannel, before: object) -> None:
    await until(lambda: rotating.generation is not before, SECONDS, "the files are in use")


async def finish(call: Any) -> None:
    await call.done_writing()
    async with asyncio.timeout(SECONDS):
        assert await call.read() is grpc.aio.EOF  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy"])
async def test_proxy_of_the_environment_sees_no_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """gRPC uses it even for loopback, and without TLS it would read the forwarded tokens."""
    paths = client_files(tmp_path, "spiffe://cluster/one")
    asked = asyncio.Event()

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.close()

    proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    for variable in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    async with proxy, server() as target:
        async with open_service_channel(target, settings(paths)) as secure:
            assert await name_seen(open_call(secure)) == "spiffe://cluster/one"
        async with open_service_channel("127.0.0.1:1", Tls()) as plain:
            with pytest.raises(grpc.aio.AioRpcError):
                await name_seen(open_call(plain))
    assert not asked.is_set()
