"""Places for clients that read nodes: bounded, shared out fairly, and not for those who stall.

A reader holds a connection to the object store for as long as it reads. So that readers never take
the connections that the completer, the verifier and the processor need, there are fewer places than
connections; so that no tenant and no client connection takes all of them, each has a bound; and
whoever takes no block for a while makes room for those who wait.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import DeadlineExceeded, ResourceExhausted
from sluice_core.uploads.model import MAX_BLOCK_BYTES

_LEAST_PIECE_BYTES: Final = 64 * 1024
_SLOW_SECONDS: Final = 1.0
_QUICK_SECONDS: Final = 0.1
"""A block goes out in pieces for a client that takes it slowly, so that its progress can be seen:
gRPC reports a message only when it is gone as a whole."""

_ASK_AGAIN_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """Bounds of one process.

    `max_readers` reads at once, of which one tenant has at most `per_tenant` and one connection at
    most `per_connection`. A reader that takes nothing for `stall_seconds` is ended, and after
    `yield_seconds` already when another one waits for a place, which that one does for at most
    `wait_seconds`.
    """

    max_readers: int = 48
    per_tenant: int = 36
    per_connection: int = 16
    wait_seconds: float = 10.0
    yield_seconds: float = 5.0
    stall_seconds: float = 45.0


class Readers:
    """Shares the places out."""

    def __init__(self, options: ReaderOptions) -> None:
        self._options = options
        self._reading: list[Reader] = []
        self._calls: Counter[str] = Counter()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def calling(self, connection: str) -> AsyncIterator[None]:
        """The share of a connection, until its call has ended: also that of a client that was
        refused and has not taken its status yet, for what was sent to it is still in memory.

        Raises `ResourceExhausted` READERS_BUSY.
        """
        until = asyncio.get_running_loop().time() + self._options.wait_seconds
        while self._calls[connection] >= self._options.per_connection:
            await self._wait(until)
        self._calls[connection] += 1
        try:
            yield
        finally:
            self._calls[connection] -= 1
            if not self._calls[connection]:
                del self._calls[connection]
            self._wake()

    @asynccontextmanager
    async def place(self, tenant: str, connection: str) -> AsyncIterator[Reader]:
        """A place, once there is one.

        Raises `ResourceExhausted` READERS_BUSY; `DeadlineExceeded` READ_STALLED out of the block.
        """
        until = asyncio.get_running_loop().time() + self._options.wait_seconds
        while not self._has_place(tenant):
            self._end_stalled(tenant)
            await self._wait(until)
        reader = Reader(tenant, connection, self._options.stall_seconds)
        self._reading.append(reader)
        try:
            yield reader
        finally:
            self._reading.remove(reader)
            self._wake()

    def _has_place(self, tenant: str) -> bool:
        of_tenant = sum(reader.tenant == tenant for reader in self._reading)
        return len(self._reading) < self._options.max_readers and (
            of_tenant < self._options.per_tenant
        )

    def _end_stalled(self, tenant: str) -> None:
        """End one reader that stalls and whose place would help: of the tenant and the connection
        with most readers, and there the one that has stalled for longest."""
        helps = self._reading
        if len(helps) < self._options.max_readers:  # the tenant's own bound is in the way
            helps = [reader for reader in helps if reader.tenant == tenant]
        stalled = [
            reader for reader in helps if reader.stalled_seconds() >= self._options.yield_seconds
        ]
        if not stalled:
            return
        tenants = Counter(reader.tenant for reader in self._reading)
        connections = Counter(reader.connection for reader in self._reading)
        max(
            stalled,
            key=lambda reader: (
                tenants[reader.tenant],
                connections[reader.connection],
                reader.stalled_seconds(),
            ),
        ).end()

    async def _wait(self, until: float) -> None:
        left = until - asyncio.get_running_loop().time()
        if left <= 0:
            raise ResourceExhausted(
                "READERS_BUSY",
                "Too many nodes are being read at once; try again shortly, with fewer reads at the "
                "same time.",
                retry_after_seconds=1.0,
            )
        await wait_at_most(self._freed, min(left, _ASK_AGAIN_SECONDS))

    def _wake(self) -> None:
        self._freed.set()
        self._freed = asyncio.Event()


class Reader:
    """One client that reads. Made by `Readers.place`."""

    def __init__(self, tenant: str, connection: str, stall_seconds: float) -> None:
        self.tenant = tenant
        self.connection = connection
        self._stall_seconds = stall_seconds
        self._piece_bytes = MAX_BLOCK_BYTES
        self._sending: asyncio.Timeout | None = None
        self._began = 0.0
        self._loop = asyncio.get_running_loop()

    def stalled_seconds(self) -> float:
        """For how long the client has taken nothing."""
        return 0.0 if self._sending is None else self._loop.time() - self._began

    def end(self) -> None:
        """Give the place to somebody else: sending fails at once."""
        if self._sending is not None and not self._sending.expired():
            self._sending.reschedule(self._loop.time())

    async def send(self, block: bytes, write: Callable[[bytes], Awaitable[Any]]) -> None:
        """Send a block, in pieces that the client can take in a fair time.

        Raises `DeadlineExceeded` READ_STALLED.
        """
        if len(block) <= self._piece_bytes:
            await self._send_piece(write(block))
            return
        at = 0
        while at < len(block):
            piece = block[at : at + self._piece_bytes]
            await self._send_piece(write(piece))
            at += len(piece)

    async def _send_piece(self, writing: Awaitable[Any]) -> None:
        self._began = self._loop.time()
        try:
            async with asyncio.timeout_at(self._began + self._stall_seconds) as self._sending:
                await writing
        except TimeoutError:
            raise DeadlineExceeded(
                "READ_STALLED",
                "The data was not taken in time; read on from the offset that you have reached.",
                retry_after_seconds=0.0,
            ) from None
        finally:
            self._sending = None
        seconds = self._loop.time() - self._began
        if seconds > _SLOW_SECONDS:
            self._piece_bytes = _LEAST_PIECE_BYTES
        elif seconds < _QUICK_SECONDS:
            self._piece_bytes = min(2 * self._piece_bytes, MAX_BLOCK_BYTES)
