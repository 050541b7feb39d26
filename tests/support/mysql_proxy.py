"""Between the catalogue and its server: a proxy that knows a COMMIT when it sees one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto

_COMMIT = b"COMMIT"
"""By itself, or at the end of a packet of statements."""


class AtCommit(Enum):
    """What becomes of a COMMIT."""

    PASS = auto()
    HOLD = auto()
    """It waits for `go_on`."""
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
        self.at_commit = AtCommit.PASS
        self.commits_seen = asyncio.Semaphore(0)
        self.port = 0
        self.requests = 0
        """What clients have sent, each after the answer to the one before."""

    def freeze(self) -> None:
        self._running.clear()

    def thaw(self) -> None:
        self._running.set()

    def go_on(self) -> None:
        """Let the COMMITs through that are held, and those to come."""
        self.at_commit = AtCommit.PASS
        self._released.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(
            "127.0.0.1", self._server_port
        )
        answers_lost = asyncio.Event()
        pumps = [
            asyncio.create_task(self._requests(reader, upstream_writer, answers_lost)),
            asyncio.create_task(self._answers(upstream_reader, writer, answers_lost)),
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
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers_lost: asyncio.Event,
    ) -> None:
        while data := await reader.read(65_536):
            self.requests += 1
            await self._running.wait()
            if data.endswith(_COMMIT) and self.at_commit is not AtCommit.PASS:
                fault = self.at_commit
                self.commits_seen.release()
                if fault is AtCommit.LOSE_REQUEST:
                    return
                if fault is AtCommit.HOLD:
                    await self._released.wait()
                else:
                    answers_lost.set()
            writer.write(data)
            await writer.drain()

    async def _answers(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers_lost: asyncio.Event,
    ) -> None:
        while data := await reader.read(65_536):
            await self._running.wait()
            if answers_lost.is_set():
                return  # the server answered, so it has committed
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
