"""Both sides of a proxy under test: a service behind it and a client of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from support.proxy import FaultProxy

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SHORT = 0.2


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """Run a service on a loopback port while the block lasts. Yield its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(run(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


class Peer:
    """A client of the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, size: int, within: float = 5.0) -> bytes:
        async with asyncio.timeout(within):
            return await self.reader.readexactly(size)

    async def exchange(self, data: bytes) -> bytes:
        """Send and receive the same amount concurrently."""
        heard, _ = await asyncio.gather(self.hear(len(data)), self.say(data))
        return heard

    async def hears_nothing(self) -> bool:
        try:
            await self.hear(1, SHORT)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def peer_of(proxy: FaultProxy) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
