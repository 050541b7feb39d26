"""A TCP proxy that injects network faults between a client and a service."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from support.http_faults import HttpFaults, HttpFilter
from support.network_faults import NO_FAULTS, Direction, Faults, Flipper, Way, pieces

_READ_BYTES = 64 * 1024
_QUEUED_PIECES = 64
"""Times `_READ_BYTES`: the memory of one direction of one connection."""
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class _LostAnswer:
    containing: bytes
    nth: int


@dataclass(eq=False, slots=True)
class _Connection:
    """A client, the service behind it, and the state of their exchange."""

    number: int
    client: asyncio.StreamWriter
    service: asyncio.StreamWriter
    http: HttpFilter | None
    request_tail: bytes = b""
    request_counted: bool = False
    answering: bool = True
    """The service sent last; the client's next bytes are a new request."""
    loses_answer: bool = False
    half_closed: set[Way] = field(default_factory=set)

    def reset(self) -> None:
        _reset(self.client)
        _reset(self.service)


# Size: a method for each fault, which take effect on the same open connections.
class FaultProxy:
    """Listens on a loopback port and forwards to `upstream`. An async context manager.

        async with FaultProxy("127.0.0.1", service_port) as proxy:
            ...                                   # clients connect to proxy.address
            proxy.down = Faults(latency_seconds=0.2)
            proxy.both(Faults(stalled=True))      # black hole: connected, but no bytes pass
            proxy.heal()
            proxy.reset()                         # every connection ends by RST
            proxy.lose_answer(b"EVALSHA")         # executed, but the answer is lost

    Faults take effect at once, on open connections too. The proxy handles bytes, not protocols, so
    it works for Redis, MySQL, S3 and an intake alike; `HttpFaults` adds its own answers.

    Kafka brokers redirect clients to the advertised address, past the proxy. Start the proxy first
    (then its port is known), give the broker a listener that is advertised at `proxy.address`, and
    set `proxy.upstream` to the real address of that listener.

    Args:
        host, port: of the service.
        listen_port: 0 picks a free port.
        http: answers to give in place of an HTTP/1.1 service.
        max_connections: further connections are reset at once.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        listen_port: int = 0,
        http: HttpFaults | None = None,
        max_connections: int = 1000,
    ) -> None:
        self.upstream = (host, port)
        self.port = listen_port
        self.connections_made = 0
        self._http = http
        self._max_connections = max_connections
        self._directions = {way: Direction(way) for way in Way}
        self._connections: dict[asyncio.Task[None], _Connection | None] = {}
        self._lost: list[_LostAnswer] = []
        self._refusing = False
        self._server: asyncio.Server | None = None
        self._defects: list[BaseException] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    # -- faults

    @property
    def up(self) -> Faults:
        """From the client to the service."""
        return self._directions[Way.UP].faults

    @up.setter
    def up(self, faults: Faults) -> None:
        self._directions[Way.UP].set(faults)

    @property
    def down(self) -> Faults:
        """From the service to the client."""
        return self._directions[Way.DOWN].faults

    @down.setter
    def down(self, faults: Faults) -> None:
        self._directions[Way.DOWN].set(faults)

    def both(self, faults: Faults) -> None:
        self.up = self.down = faults

    def heal(self) -> None:
        """Clear all faults. Broken connections stay broken."""
        self.both(NO_FAULTS)
        self._lost.clear()
        self._refusing = False

    def refuse(self) -> None:
        """Reset open and new connections until `heal`, like a port without a listener."""
        self._refusing = True
        self.reset()

    def reset(self) -> None:
        """End every open connection by RST on both sides."""
        for connection in self._open():
            connection.reset()

    def half_close(self, way: Way) -> None:
        """Send FIN in one direction of every open connection; the other stays open.

        Later bytes in that direction are lost.
        """
        for connection in self._open():
            connection.half_closed.add(way)
            writer = connection.service if way is Way.UP else connection.client
            with suppress(OSError):
                writer.write_eof()

    def lose_answer(self, containing: bytes = b"", nth: int = 1) -> None:
        """Drop the answer to the `nth` next request that contains these bytes; reset the client.

        The request is forwarded and executed. A request begins with the first bytes that a client
        sends after an answer, so this works for protocols that alternate on a connection
        (HTTP/1.1, MySQL, Redis without pipelining across commands).
        """
        self._lost.append(_LostAnswer(containing, nth))

    @property
    def answers_to_lose(self) -> int:
        """How many requested losses are still to come."""
        return len(self._lost)

    # -- lifecycle

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", self.port, limit=_READ_BYTES
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = tuple(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        if self._defects:  # of the proxy itself: the test proves nothing then
            raise BaseExceptionGroup("the proxy failed", self._defects)

    def _open(self) -> list[_Connection]:
        return [connection for connection in self._connections.values() if connection is not None]

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing or len(self._connections) >= self._max_connections:
            _reset(writer)
            return
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._connections[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        if not task.cancelled() and (defect := task.exception()) is not None:
            self._defects.append(defect)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            upward, service = await asyncio.open_connection(*self.upstream, limit=_READ_BYTES)
        except OSError:
            _reset(client)
            return
        except asyncio.CancelledError:
            _reset(client)
            raise
        self.connections_made += 1
        filtering = HttpFilter(self._http) if self._http is not None else None
        connection = _Connection(self.connections_made, client, service, filtering)
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = connection
        has_ended_cleanly = False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(connection, Way.UP, reader, service))
                group.create_task(self._forward(connection, Way.DOWN, upward, client))
            has_ended_cleanly = True
        except* OSError:
            pass  # the other side is reset below
        finally:
            if not has_ended_cleanly:
                connection.reset()
            try:
                await _close(client)
            finally:
                await _close(service)

    # -- forwarding

    async def _forward(
        self,
        connection: _Connection,
        way: Way,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Read, delay each piece by the latency, and write, concurrently to keep the bandwidth."""
        in_transit: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED_PIECES)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(connection, way, reader, in_transit))
            group.create_task(self._write(connection, way, writer, in_transit))

    async def _read(
        self,
        connection: _Connection,
        way: Way,
        reader: asyncio.StreamReader,
        in_transit: asyncio.Queue[tuple[float, bytes]],
    ) -> None:
        direction = self._directions[way]
        flipper = Flipper(direction, connection.number)
        clock = asyncio.get_running_loop().time
        while True:
            data = await reader.read(_READ_BYTES)
            await direction.flowing.wait()
            due = clock() + direction.faults.latency_seconds
            if not data:
                await in_transit.put((due, b""))
                return
            data = flipper.applied_to(data)
            if way is Way.UP:
                self._note_request(connection, data)
                if connection.http is not None:
                    data = await _filtered(connection, connection.http, data)
            else:
                connection.answering = True
                if connection.loses_answer:
                    _reset(connection.client)
                    raise ConnectionResetError
            if data:
                await in_transit.put((due, data))

    async def _write(
        self,
        connection: _Connection,
        way: Way,
        writer: asyncio.StreamWriter,
        in_transit: asyncio.Queue[tuple[float, bytes]],
    ) -> None:
        direction = self._directions[way]
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await in_transit.get()
            await asyncio.sleep(max(due - clock(), 0))
            if not data:
                writer.write_eof()
                return
            async for piece in pieces(direction, data):
                if way in connection.half_closed:
                    break
                writer.write(piece)
                await writer.drain()

    def _note_request(self, connection: _Connection, data: bytes) -> None:
        if connection.answering:
            connection.answering = connection.request_counted = False
            connection.request_tail = b""
        if not self._lost or connection.request_counted:
            return
        rule = self._lost[0]
        request = connection.request_tail + data
        if rule.containing not in request:
            connection.request_tail = request[-max(len(rule.containing) - 1, 1) :]
            return
        connection.request_counted = True
        rule.nth -= 1
        if rule.nth == 0:
            self._lost.pop(0)
            connection.loses_answer = True


async def _filtered(connection: _Connection, filtering: HttpFilter, data: bytes) -> bytes:
    """Return the bytes to forward; a request that the proxy answers never reaches the service."""
    forwarded, answer = filtering.feed(data)
    if answer is not None:
        connection.client.write(answer)
        await connection.client.drain()
        connection.client.write_eof()
    return forwarded


def _reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None and not writer.transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    writer.transport.abort()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        return  # it was reset
    except asyncio.CancelledError:
        writer.transport.abort()  # the peer does not read the remaining bytes
        raise
