"""Bounded, fairly shared slots for clients that read nodes."""

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

_MIN_PIECE_BYTES: Final = 64 * 1024
_SLOW_SECONDS: Final = 1.0
_QUICK_SECONDS: Final = 0.1
"""A slow client gets a block in pieces, so that its progress is visible: gRPC reports a message
only when it is sent completely."""

_RETRY_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """Limits of one process.

    `max_readers` limits concurrent reads, of which one tenant has at most `per_tenant` and one
    connection at most `per_connection`. A reader that takes no data for `stall_seconds` is ended;
    if another reader waits for a slot, already after `yield_seconds`. A reader waits for a slot
    for at most `wait_seconds`.
    """

    max_readers: int = 48
    per_tenant: int = 36
    per_connection: int = 16
    wait_seconds: float = 10.0
    yield_seconds: float = 5.0
    stall_seconds: float = 45.0


class ReaderSlots:
    """Assigns slots to readers.

    A reader holds a connection to the object store while it reads. There are fewer slots than
    connections, so that readers never starve the completer, the verifier and the processor. Each
    tenant and each client connection has its own limit. A stalled reader loses its slot to one
    that waits.
    """

    def __init__(self, options: ReaderOptions) -> None:
        self._options = options
        self._reading: list[Reader] = []
        self._calls: Counter[str] = Counter()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def call_slot(self, connection: str) -> AsyncIterator[None]:
        """Count one call against its connection's limit until the call has ended.

        A client that was refused but has not read its status yet counts too, because the data
        sent to it is still in memory.

        Raise `ResourceExhausted` READERS_BUSY.
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
            self._notify()

    @asynccontextmanager
    async def slot(self, tenant: str, connection: str) -> AsyncIterator[Reader]:
        """Wait for a slot and hold it.

        Raise `ResourceExhausted` READERS_BUSY; `DeadlineExceeded` READ_STALLED out of the block.
        """
        until = asyncio.get_running_loop().time() + self._options.wait_seconds
        while not self._has_slot(tenant):
            self._end_stalled(tenant)
            await self._wait(until)
        reader = Reader(tenant, connection, self._options.stall_seconds)
        self._reading.append(reader)
        try:
            yield reader
        finally:
            self._reading.remove(reader)
            self._notify()

    def _has_slot(self, tenant: str) -> bool:
        of_tenant = sum(reader.tenant == tenant for reader in self._reading)
        return len(self._reading) < self._options.max_readers and (
            of_tenant < self._options.per_tenant
        )

    def _end_stalled(self, tenant: str) -> None:
        """End one stalled reader whose slot `tenant` could use.

        Prefer the tenant with most readers, then the connection with most, then the longest stall.
        """
        candidates = self._reading
        if len(candidates) < self._options.max_readers:  # the tenant's own limit is reached
            candidates = [reader for reader in candidates if reader.tenant == tenant]
        stalled = [
            reader
            for reader in candidates
            if reader.stalled_seconds() >= self._options.yield_seconds
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
                "Too many concurrent reads; try again shortly with fewer of them.",
                retry_after_seconds=1.0,
            )
        await wait_at_most(self._freed, min(left, _RETRY_SECONDS))

    def _notify(self) -> None:
        self._freed.set()
        self._freed = asyncio.Event()


class Reader:
    """One client that reads. Created by `ReaderSlots.slot`."""

    def __init__(self, tenant: str, connection: str, stall_seconds: float) -> None:
        self.tenant = tenant
        self.connection = connection
        self._stall_seconds = stall_seconds
        self._piece_bytes = MAX_BLOCK_BYTES
        self._sending: asyncio.Timeout | None = None
        self._began = 0.0
        self._loop = asyncio.get_running_loop()

    def stalled_seconds(self) -> float:
        """Return for how long the client has taken no data, in seconds."""
        return 0.0 if self._sending is None else self._loop.time() - self._began

    def end(self) -> None:
        """Free the slot for another reader: the send in progress fails at once."""
        if self._sending is not None and not self._sending.expired():
            self._sending.reschedule(self._loop.time())

    async def send(self, block: bytes, write: Callable[[bytes], Awaitable[Any]]) -> None:
        """Send a block in pieces whose size adapts to the client's speed.

        Raise `DeadlineExceeded` READ_STALLED.
        """
        if len(block) <= self._piece_bytes:
            await self._send_piece(write(block))
            return
        position = 0
        while position < len(block):
            piece = block[position : position + self._piece_bytes]
            await self._send_piece(write(piece))
            position += len(piece)

    async def _send_piece(self, writing: Awaitable[Any]) -> None:
        self._began = self._loop.time()
        try:
            async with asyncio.timeout_at(self._began + self._stall_seconds) as self._sending:
                await writing
        except TimeoutError:
            raise DeadlineExceeded(
                "READ_STALLED",
                "The data was not read in time; continue from the offset that you have reached.",
                retry_after_seconds=0.0,
            ) from None
        finally:
            self._sending = None
        seconds = self._loop.time() - self._began
        if seconds > _SLOW_SECONDS:
            self._piece_bytes = _MIN_PIECE_BYTES
        elif seconds < _QUICK_SECONDS:
            self._piece_bytes = min(2 * self._piece_bytes, MAX_BLOCK_BYTES)
