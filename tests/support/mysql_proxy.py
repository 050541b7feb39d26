"""A MySQL proxy that injects faults at COMMIT."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto

_COMMIT = b"COMMIT"
"""Alone, or at the end of a packet of statements."""
_HEADER_BYTES = 4
"""Packet header: three bytes of length, one of sequence number."""
_OK, _MORE_RESULTS = 0x00, 0x0008
_DELIVERY_SECONDS = 20.0
_LONG_NUMBERS = {0xFC: 2, 0xFD: 3, 0xFE: 8}


class AtCommit(Enum):
    """The treatment of a COMMIT, or of its packet after `first_bytes`."""

    PASS = auto()
    HOLD = auto()
    """It waits for `resume` and is then executed, even if its sender has disconnected."""
    LOSE_ANSWER = auto()
    """The server executes it; the connection ends without the answer."""
    LOSE_REQUEST = auto()
    """The connection ends before the server receives it."""


class MysqlProxy:
    """A proxy in front of one server.

    Faults begin with the next COMMIT and end with `at_commit = PASS`. `freeze` stops all bytes of
    all connections, like a cut cable.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._running = asyncio.Event()
        self._running.set()
        self._released = asyncio.Event()
        self._cut = False
        self.at_commit = AtCommit.PASS
        self.only_with = b""
        """Faults apply only to packets that contain this."""
        self.first_bytes = 0
        """Bytes of a COMMIT that the server gets before the fault; negative: all but these."""
        self.rewrite: Callable[[bytes], bytes] = bytes
        """Replaces every client packet before the server gets it."""
        self.commits_seen = asyncio.Semaphore(0)
        self.commits_answered = asyncio.Semaphore(0)
        """Those of `commits_seen` that the server has finished."""
        self.port = 0
        self.upstream_ports: set[int] = set()
        """Local ports of the proxy's connections to the server, also of ended ones."""
        self.requests = 0
        """Number of client packets, each sent after the previous answer."""

    def freeze(self) -> None:
        self._running.clear()

    def thaw(self) -> None:
        self._running.set()

    def resume(self) -> None:
        """Release held COMMITs and let later ones pass."""
        self.at_commit = AtCommit.PASS
        self._released.set()

    async def deliver(self) -> None:
        """Do the same and wait until the server has finished one that was held."""
        self.resume()
        async with asyncio.timeout(_DELIVERY_SECONDS):
            await self.commits_answered.acquire()

    def cut(self) -> None:
        """Drop held COMMITs; later ones pass."""
        self._cut = True
        self.resume()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(
            "127.0.0.1", self._server_port
        )
        self.upstream_ports.add(upstream_writer.get_extra_info("sockname")[1])
        commit = _Commit()
        pumps = [
            asyncio.create_task(self._requests(reader, upstream_writer, commit)),
            asyncio.create_task(self._answers(upstream_reader, writer, commit)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for end in (writer, upstream_writer):
                end.close()

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, commit: _Commit
    ) -> None:
        while packet := await _packet(reader):
            self.requests += 1
            await self._running.wait()
            packet = self.rewrite(packet)
            fault = self.at_commit
            if fault is AtCommit.PASS or not (
                packet.endswith(_COMMIT) and self.only_with in packet
            ):
                await _send(writer, packet)
                continue
            await _send(writer, packet[: self.first_bytes])
            self.commits_seen.release()
            if fault is AtCommit.LOSE_REQUEST:
                return
            if fault is AtCommit.HOLD:
                await self._released.wait()
                if self._cut:
                    return
            commit.begin(answer_lost=fault is AtCommit.LOSE_ANSWER)
            await _send(writer, packet[self.first_bytes :])
            await commit.done.wait()
            self.commits_answered.release()
            if commit.answer_lost:
                return

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, commit: _Commit
    ) -> None:
        while data := await reader.read(65_536):
            await self._running.wait()
            commit.feed(data)
            if not commit.answer_lost:
                # The server continues even if the client has disconnected.
                with suppress(ConnectionError):
                    await _send(writer, data)


class _Commit:
    """Progress of a COMMIT that the server has received."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.done.set()
        self.answer_lost = False
        self._heard = b""

    def begin(self, *, answer_lost: bool) -> None:
        self.answer_lost = answer_lost
        self._heard = b""
        self.done.clear()

    def feed(self, data: bytes) -> None:
        """Parse one OK per statement up to the last, or an error in place of one."""
        if self.done.is_set():
            return
        self._heard += data
        while len(self._heard) >= _HEADER_BYTES:
            end = _HEADER_BYTES + int.from_bytes(self._heard[:3], "little")
            if len(self._heard) < end:
                return
            answer, self._heard = self._heard[_HEADER_BYTES:end], self._heard[end:]
            if answer[0] != _OK or not _status(answer) & _MORE_RESULTS:
                self.done.set()


def _status(ok: bytes) -> int:
    """Return the status flags, which follow two length-encoded integers."""
    at = 1
    for _ in range(2):
        at += 1 + _LONG_NUMBERS.get(ok[at], 0)
    return int.from_bytes(ok[at : at + 2], "little")


async def _packet(reader: asyncio.StreamReader) -> bytes:
    """Return the next complete packet; empty at the end."""
    try:
        header = await reader.readexactly(_HEADER_BYTES)
        return header + await reader.readexactly(int.from_bytes(header[:3], "little"))
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


@asynccontextmanager
async def running_proxy(server_port: int) -> AsyncIterator[MysqlProxy]:
    proxy = MysqlProxy(server_port)
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
        await listener.wait_closed()
        for task in tuple(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
