"""Attacks on HTTP/2 itself: what a client library never sends."""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import psutil
import pytest

from sluice_backends.instruments import Registry
from sluice_common.rpc.interceptors import server_layers
from sluice_common.rpc.server import build_server, listen
from sluice_common.security.authentication import LocalAuthenticator
from sluice_common.settings.rpc_options import ServerOptions
from sluice_common.telemetry.metrics import RpcMetrics
from sluice_core.addresses import Address
from sluice_core.uploads.model import MIB
from support.hostile_clients import Connection, frame

DATA, HEADERS, RST_STREAM, SETTINGS, CONTINUATION = 0, 1, 3, 4, 9
END_STREAM, END_HEADERS = 1, 4
CANCEL = b"\0\0\0\x08"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""Constants of RFC 9113."""
PATH = "/test.Service/Call"
FLOOD_BYTES = 64 * MIB
SECONDS = 60.0
"""Bound of each wait, for a loaded machine."""


@dataclass
class Attacked:
    """A server, the calls that it has, and an honest client."""

    address: str = ""
    begun: int = 0
    running: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, request: bytes, context: Any) -> bytes:
        self.begun += 1
        self.running += 1
        self.idle.clear()
        try:
            # Yield, so that a reset meets a call in progress.
            await asyncio.sleep(0)
            return request
        finally:
            self.running -= 1
            if not self.running:
                self.idle.set()

    async def honest(self) -> bytes:
        """Make a call on a connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self.address, options=options) as channel:
            method: Any = channel.unary_unary(PATH, None, None)
            answer: bytes = await method(b"honest", timeout=SECONDS)
            return answer


@asynccontextmanager
async def attacked(options: ServerOptions | None = None) -> AsyncIterator[Attacked]:
    scene = Attacked()
    options = options or ServerOptions()
    layers = server_layers(Registry().group(RpcMetrics), LocalAuthenticator(), options)
    server = build_server(options, (layers,))
    handlers = {"Call": grpc.unary_unary_rpc_method_handler(scene.call)}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Service", handlers),)
    )
    scene.address = str(listen(server, "TEST", Address("127.0.0.1", 0)))
    await server.start()
    try:
        assert await scene.honest() == b"honest"
        yield scene
    finally:
        await server.stop(None)


@asynccontextmanager
async def hostile(scene: Attacked) -> AsyncIterator[Connection]:
    connection = await Connection.to(scene.address)
    try:
        yield connection
    finally:
        await connection.close()


async def soon(waiting: Awaitable[object]) -> None:
    async with asyncio.timeout(SECONDS):
        await waiting


def literal(name: str, value: bytes, *, indexed: bool = False) -> bytes:
    """Encode a header field as a literal (RFC 7541, 6.2), with lengths of any size."""
    return (
        (b"\x40" if indexed else b"\0")
        + _length(len(name))
        + name.encode()
        + _length(len(value))
        + value
    )


def _length(size: int) -> bytes:
    if size < 127:
        return bytes([size])
    out, size = [127], size - 127
    while size >= 128:
        out.append(size % 128 + 128)
        size //= 128
    return bytes([*out, size])


REQUEST = b"".join(
    literal(name, value)
    for name, value in (
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", PATH.encode()),
        (":authority", b"x"),
        ("te", b"trailers"),
        ("content-type", b"application/grpc"),
    )
)


def message(stream: int) -> bytes:
    return frame(DATA, END_STREAM, stream, b"\0\0\0\0\1x")


def resident_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


async def test_endless_header_block_ends_the_connection() -> None:
    """A header block in CONTINUATION frames without an end (CVE-2024-27316 and its like)."""
    async with attacked() as scene, hostile(scene) as connection:
        before, honest_calls = resident_bytes(), scene.begun
        await connection.send(frame(HEADERS, 0, 1, REQUEST))
        flood = frame(CONTINUATION, 0, 1, literal("x-flood", bytes(b"v" * 16_000)))
        with suppress(OSError):
            for _ in range(FLOOD_BYTES // len(flood)):
                await connection.send(flood)
        await soon(connection.ended.wait())
        assert scene.begun == honest_calls
        assert await scene.honest() == b"honest"
        assert resident_bytes() - before < FLOOD_BYTES // 2, "the flood is not kept"


@pytest.mark.parametrize("acknowledges", [False, True], ids=["no settings", "settings"])
async def test_hpack_bomb_reaches_no_handler(*, acknowledges: bool) -> None:
    """A field of 4,000 bytes in the dynamic table, and then one byte for each copy of it.

    gRPC applies its limit of metadata only after the client has acknowledged the settings.
    """
    async with attacked() as scene, hostile(scene) as connection:
        if acknowledges:
            await soon(connection.acknowledged.wait())
            # An answer shows that the server has read the acknowledgement.
            await connection.send(frame(HEADERS, END_HEADERS, 1, REQUEST) + message(1))
            await soon(connection.ended.wait())
        else:
            connection.acknowledges = False
        before, honest_calls = resident_bytes(), scene.begun
        field_ = literal("x-bomb", b"b" * 3_900, indexed=True)
        for stream in range(3, 43, 2):
            block = REQUEST + (field_ if stream == 3 else b"\xbe") + b"\xbe" * 1_000
            await connection.send(frame(HEADERS, END_HEADERS, stream, block) + message(stream))
        await soon(connection.all_ended(20 + acknowledges))
        assert scene.begun == honest_calls
        assert await scene.honest() == b"honest"
        # One call at a time may have its 4 MiB.
        assert resident_bytes() - before < 64 * MIB


@pytest.mark.parametrize("with_message", [False, True], ids=["headers", "call"])
async def test_rapid_reset_leaves_nothing_running(*, with_message: bool) -> None:
    """Calls that are reset in the packet that begins them (CVE-2023-44487): the limit of concurrent
    streams does not count them."""
    async with attacked() as scene, hostile(scene) as connection:
        before = resident_bytes()
        with suppress(OSError):  # the server may end the connection
            for first in range(1, 20_001, 200):
                burst = bytearray()
                for stream in range(first, first + 200, 2):
                    burst += frame(HEADERS, END_HEADERS, stream, REQUEST)
                    if with_message:
                        burst += message(stream)
                    burst += frame(RST_STREAM, 0, stream, CANCEL)
                await connection.send(bytes(burst))
                if first % 5_000 == 1:
                    assert await scene.honest() == b"honest"
        assert await scene.honest() == b"honest"
        await connection.close()
        if scene.running:
            await soon(scene.idle.wait())
        assert resident_bytes() - before < 32 * MIB


@pytest.mark.parametrize("sent", [b"", PREFACE[:10], PREFACE, b"GET / HTTP/1.1\r\n"], ids=repr)
async def test_slow_preface_ends_the_connection(sent: bytes) -> None:
    """A client that connects and says nothing, or not all of what it has to say first."""
    async with attacked(ServerOptions(handshake_seconds=0.2)) as scene:
        host, port = scene.address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        with suppress(ConnectionResetError):
            await soon(reader.read(-1))
        writer.close()
        assert await scene.honest() == b"honest"


def test_slot_of_a_slow_preface_is_free_in_time() -> None:
    assert ServerOptions().handshake_seconds <= 60


@pytest.mark.slow
async def test_idle_connections_do_not_stop_honest_calls() -> None:
    """As many as the descriptors of one process allow, up to 10,000: both ends are in it."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = min(10_000, (most - 500) // 2)
    assert count >= 200, "raise the limit of open files"
    async with attacked() as scene, AsyncExitStack() as stack:
        before = resident_bytes()
        for number in range(count):
            await stack.enter_async_context(hostile(scene))
            if number % 1_000 == 0:
                assert await scene.honest() == b"honest"
        assert await scene.honest() == b"honest"
        per_connection = (resident_bytes() - before) / count
        sys.stdout.write(f"{count} connections, {per_connection:,.0f} bytes each\n")
        assert per_connection < 200_000, "with the client's end"
