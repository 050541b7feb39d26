"""Peers that do not read, and peers that send much: what they hold, and that they are ended."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

import pytest
from starlette.types import Message, Receive, Scope, Send
from uvicorn import Server
from uvicorn.server import ServerState

from sluice_gateway.http import dropping, protocol, transport
from sluice_gateway.http.connections import Connections
from sluice_gateway.http.server import HttpOptions, serving_http
from support.waiting import until

HOST = b"host: a\r\n"
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\n" + HOST + b"connection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: " + base64.b64encode(os.urandom(16))
) + b"\r\n\r\n"
LARGE = 2 * 1024 * 1024


def frame(first_byte: int, payload: bytes = b"") -> bytes:
    """Return a frame of a client, masked with zeros."""
    return bytes([first_byte, 0x80 | len(payload)]) + bytes(4) + payload


PING, CLOSE = frame(0x89, b"p" * 125), frame(0x88, b"\x03\xe8")
EMPTY_PING, EMPTY_TEXT = frame(0x89), frame(0x81)
TEXT_BEGIN, EMPTY_REST = frame(0x01), frame(0x00)


@dataclass
class Edge:
    """A server with an application that answers a lot, and what its WebSockets have received."""

    port: int
    server: Server
    received: list[Message] = field(default_factory=list)

    @contextmanager
    def deaf(self, begin: bytes) -> Iterator[socket.socket]:
        """Open a connection that sends `begin` and reads nothing."""
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", self.port))
            client.setblocking(False)
            client.send(begin)
            yield client

    async def gone(self) -> None:
        state = self.server.server_state
        await until(lambda: not state.connections, what="the socket is freed")


@asynccontextmanager
async def serving(
    *, drain_seconds: int = 5, connections: Connections | None = None
) -> AsyncIterator[Edge]:
    edge: Edge

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] != "websocket.disconnect":
                edge.received.append(message)
            return
        headers = [(b"content-length", b"%d" % (2 * LARGE))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        piece = {"type": "http.response.body", "body": bytes(LARGE), "more_body": True}
        await send(piece)
        if scope["path"] == "/endless":
            await send(piece)  # waits for room
        else:
            await send({**piece, "more_body": False})

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        options = HttpOptions(drain_seconds=drain_seconds, connections=connections or Connections())
        async with serving_http(listener, app, options) as server:
            edge = Edge(listener.getsockname()[1], server)
            yield edge


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that takes nothing is ended after a moment."""
    monkeypatch.setattr(transport, "STALL_SECONDS", 0.2)


async def flood(client: socket.socket, data: bytes, most: int) -> int:
    """Send `data` again and again until the server reads no more of it; return the bytes."""
    loop, sent = asyncio.get_running_loop(), 0
    with suppress(TimeoutError, ConnectionError):
        while sent < most:
            async with asyncio.timeout(1):
                await loop.sock_sendall(client, data)
            sent += len(data)
    return sent


# ------------------------------------------------------------------ WebSockets


async def test_pings_without_reading_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server reads no more pings while its pongs are not taken."""
    monkeypatch.setattr(dropping, "FRAMES", dropping.Rate(10**6, 10**6, burst=10**6))
    async with serving(drain_seconds=1) as edge:
        with edge.deaf(HANDSHAKE) as client:
            await flood(client, PING * 200, 50_000_000)
            (connection,) = edge.server.server_state.connections
            assert connection.transport.get_write_buffer_size() < 256 * 1024


@pytest.mark.usefixtures("hasty")
async def test_closed_websocket_that_reads_nothing_ends() -> None:
    async with serving() as edge:
        with edge.deaf(HANDSHAKE):
            await until(_is_open(edge.server), what="the handshake")
            (connection,) = edge.server.server_state.connections
            connection.transport.write(bytes(LARGE))  # more than the peer takes
            connection.data_received(CLOSE)
            await edge.gone()


async def test_closing_websocket_does_not_break_the_stop() -> None:
    """The server ends although uvicorn cannot close a WebSocket that its peer has closed."""
    async with serving(drain_seconds=1) as edge:
        with edge.deaf(HANDSHAKE):
            await until(_is_open(edge.server), what="the handshake")
            (connection,) = edge.server.server_state.connections
            connection.transport.write(bytes(LARGE))  # more than the peer takes
            connection.data_received(CLOSE)
            assert connection.transport.is_closing()
            edge.server.should_exit = True
            await edge.gone()


def _is_open(server: Server) -> Callable[[], bool]:
    def check() -> bool:
        return any(getattr(each, "handshake_complete", False) for each in _connections(server))

    return check


def _connections(server: Server) -> list[object]:
    state: ServerState = server.server_state
    return list(state.connections)


@pytest.mark.parametrize(
    ("begin", "data"),
    [(b"", EMPTY_PING), (b"", EMPTY_TEXT), (TEXT_BEGIN, EMPTY_REST), (b"", frame(0x8A))],
    ids=["ping", "text", "continuation", "pong"],
)
async def test_flood_of_empty_frames_is_ended(begin: bytes, data: bytes) -> None:
    """One read of 256 KiB holds 43,690 of them."""
    async with serving() as edge:
        with edge.deaf(HANDSHAKE):
            await until(_is_open(edge.server), what="the handshake")
            (connection,) = edge.server.server_state.connections
            connection.data_received(begin + data * 43_690)
            await edge.gone()
            assert len(edge.received) < 5 * dropping.FRAMES.burst


async def test_upgrade_that_is_no_handshake_is_refused() -> None:
    """The parser of WebSockets gives up on so many headers, and waits for nothing more."""
    request = HANDSHAKE.removesuffix(b"\r\n") + b"x: y\r\n" * 300 + b"\r\n"
    async with serving() as edge:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(request)
        async with asyncio.timeout(20):
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()


# ------------------------------------------------------------------ HTTP


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("path", [b"/endless", b"/large"])
async def test_client_that_reads_no_answer_is_ended(
    path: bytes,
) -> None:
    """While the server waits for room, and after it has closed the connection."""
    async with serving() as edge:
        with edge.deaf(b"GET %s HTTP/1.1\r\n%sconnection: close\r\n\r\n" % (path, HOST)):
            await until(lambda: edge.server.server_state.connections, what="the connection")
            await edge.gone()


async def test_stop_cuts_clients_that_do_not_read() -> None:
    async with serving(drain_seconds=1) as edge:
        with edge.deaf(b"GET /large HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n"):
            await until(lambda: edge.server.server_state.connections, what="the connection")
            edge.server.should_exit = True
            await edge.gone()


@pytest.mark.usefixtures("hasty")
async def test_slow_reader_gets_the_whole_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the close as well, as long as it reads at the minimum pace."""
    monkeypatch.setattr(transport, "MIN_BYTES", 1)
    async with serving() as edge:
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, limit=4096)
        writer.write(b"GET /large HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n")
        got = 0
        while piece := await reader.read(65536):
            got += len(piece)
        assert got > 2 * LARGE
        writer.close()


async def test_pipelined_requests_are_few() -> None:
    """One read of 256 KiB holds 14,563 of the smallest; no tasks and no memory for all of them."""
    async with serving(drain_seconds=1) as edge:
        with edge.deaf(b"GET /endless HTTP/1.1\r\n" + HOST + b"\r\n"):
            await until(lambda: edge.server.server_state.tasks, what="the request")
            (connection,) = edge.server.server_state.connections
            connection.data_received(b"GET / HTTP/1.1\r\n\r\n" * 14_563)
            assert connection.transport.is_closing()
            assert len(connection.pipeline) <= protocol.MAX_PIPELINED


@pytest.mark.parametrize(
    "begin",
    [b"0\r\nx: ", b"1;x=", b"1\r\na\r\n0\r\nx: ", b"0\r\n" + b"x: y\r\n" * 9_000],
    ids=["trailer", "extension", "trailer-after-body", "many-trailers"],
)
async def test_endless_end_of_a_chunked_body_is_refused(begin: bytes) -> None:
    """The parser keeps it, so it is counted like a header."""
    async with serving(drain_seconds=1) as edge:
        head = b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n"
        with edge.deaf(head) as client:
            await asyncio.get_running_loop().sock_sendall(client, begin)
            sent = await flood(client, b"a" * 65536, 32 * 1024 * 1024)
            assert sent < 16 * 1024 * 1024  # what the kernel holds


# ------------------------------------------------------------------ connections


def test_connections_of_an_address_are_limited() -> None:
    connections = Connections(most=100, of_address=2, proxies=["10.0.0.0/8"])
    first = "2001:db8::1"
    assert connections.admit(first)
    assert connections.admit("2001:db8::2"), "two of one network"
    assert not connections.admit("2001:db8::3")
    assert connections.admit("192.0.2.1"), "others are admitted"
    connections.release(first)
    assert connections.admit("2001:db8::3")


@pytest.mark.parametrize("host", ["10.1.2.3", "127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_address_of_many_clients_has_no_limit(host: str) -> None:
    connections = Connections(most=4, of_address=1, proxies=["10.0.0.0/8"])
    assert [connections.admit(host) for _ in range(5)] == [True] * 4 + [False]


async def test_connection_above_the_limit_is_refused() -> None:
    """And served again when another has ended, also one that became a WebSocket."""
    async with serving(connections=Connections(most=1)) as edge:
        with edge.deaf(HANDSHAKE):
            await until(_is_open(edge.server), what="the handshake")
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
            async with asyncio.timeout(20):
                answer = await reader.read()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"TOO_MANY_CONNECTIONS" in answer
        await edge.gone()
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n")
        async with asyncio.timeout(20):
            assert (await reader.read(12)) == b"HTTP/1.1 200"
        writer.transport.abort()
