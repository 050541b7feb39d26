"""A load balancer in miniature: TCP connections in turn to each server, no sticky sessions."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_READ_BYTES = 64 * 1024


@dataclass
class RoundRobin:
    """A running balancer. A server that refuses a connection is passed over."""

    servers: Sequence[str] = ()
    """`host:port` of each."""
    address: str = ""
    connections: Counter[str] = field(default_factory=Counter)
    """Made to each server."""
    _turns: itertools.count[int] = field(default_factory=itertools.count)
    _open: set[asyncio.Task[None]] = field(default_factory=set)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def end(self) -> None:
        """End all connections."""
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until either side ends it."""
        upstream = await self._connected()
        if upstream is None:
            writer.transport.abort()
            return
        up_reader, up_writer = upstream
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_forward(reader, up_writer))
                group.create_task(_forward(up_reader, writer))
        except* OSError:
            pass  # one side has gone, and the other one is closed below
        finally:
            up_writer.close()
            writer.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        turn = next(self._turns)
        for step in range(len(self.servers)):
            server = self.servers[(turn + step) % len(self.servers)]
            host, _, port = server.rpartition(":")
            with suppress(OSError):
                connected = await asyncio.open_connection(host, int(port))
                self.connections[server] += 1
                return connected
        return None


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_READ_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


@asynccontextmanager
async def round_robin() -> AsyncIterator[RoundRobin]:
    """Listen on a loopback port; `servers` may be set later."""
    balancer = RoundRobin()
    serving = await asyncio.start_server(balancer.accept, "127.0.0.1", 0)
    host, port = serving.sockets[0].getsockname()[:2]
    balancer.address = f"{host}:{port}"
    try:
        yield balancer
    finally:
        serving.close()
        await balancer.end()
