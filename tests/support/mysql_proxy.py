"""Between the catalogue and its server: a proxy that knows a COMMIT when it sees one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto

_COMMIT = b"COMMIT"
"""By itself, or at the end of a packet of statements."""
_HEADER_BYTES = 4
"""Before every packet: three of its length, one of its number."""
_OK, _MORE_RESULTS = 0x00, 0x0008
_DELIVERY_SECONDS = 20.0
_LONG_NUMBERS = {0xFC: 2, 0xFD: 3, 0xFE: 8}


class AtCommit(Enum):
    """What becomes of a COMMIT, or of what `first_bytes` leaves of it."""

    PASS = auto()
    HOLD = auto()
    """It waits for `resume`, and is done then, whether its sender is still there or not."""
    LOSE_ANSWER = auto()
    """The server does it, and nobody hears of it: the connection ends."""
    LOSE_REQUEST = auto()
    """The connection ends before the server sees it."""


class MysqlProxy:
    """One listener in front of one server. Faults begin with the next COMMIT and end with
    `at_commit = PASS`; `frozen` stops all bytes of all connections, as a cut cable does."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._running = asyncio.Event()
        self._running.set()
        self._released = asyncio.Event()
        self._cut = False
        self.at_commit = AtCommit.PASS
        self.only_with = b""
        """Faults are only for packets in which this stands."""
        self.first_bytes = 0
        """How much of a COMMIT's packet the server gets before the fault; negative: all but so
        many."""
        self.rewrite: Callable[[bytes], bytes] = bytes
        """Makes of every packet of a client what the server gets instead."""
        self.commits_seen = asyncio.Semaphore(0)
        self.commits_answered = asyncio.Semaphore(0)
        """Those of `commits_seen` that the server is through with."""
        self.port = 0
        self.upstream_ports: set[int] = set()
        """Where the proxy's connections to the server begin, those that have ended too."""
        self.requests = 0
        """What clients have sent, each after the answer to the one before."""

    def freeze(self) -> None:
        self._running.clear()

    def thaw(self) -> None:
        self._running.set()

    def resume(self) -> None:
        """Let the COMMITs through that are held, and those to come."""
        self.at_commit = AtCommit.PASS
        self._released.set()

    async def deliver(self) -> None:
        """The same; returns when the server is through with one that was held."""
        self.resume()
        async with asyncio.timeout(_DELIVERY_SECONDS):
            await self.commits_answered.acquire()

    def cut(self) -> None:
        """The COMMITs that are held never come; those to come pass."""
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
            commit.hear(data)
            if not commit.answer_lost:
                # The server goes on whether somebody listens or not.
                with suppress(ConnectionError):
                    await _send(writer, data)


class _Commit:
    """A COMMIT that the server has got, and how far it is with it."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.done.set()
        self.answer_lost = False
        self._heard = b""

    def begin(self, *, answer_lost: bool) -> None:
        self.answer_lost = answer_lost
        self._heard = b""
        self.done.clear()

    def hear(self, data: bytes) -> None:
        """One OK for each statement up to the last, or an error in place of one."""
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
    """After the number of rows and the last row's id, which are as long as they need be."""
    at = 1
    for _ in range(2):
        at += 1 + _LONG_NUMBERS.get(ok[at], 0)
    return int.from_bytes(ok[at : at + 2], "little")


async def _packet(reader: asyncio.StreamReader) -> bytes:
    """The next one whole; empty at the end."""
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
