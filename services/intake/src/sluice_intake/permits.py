"""A bound on the bytes of unary messages that are in memory at once (rule 11)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sluice_common.errors import ResourceExhausted


class Permit:
    """Bytes somebody may have in memory. Only `BytePermits` makes one."""

    def __init__(self, permits: BytePermits, held_bytes: int) -> None:
        self._permits = permits
        self.held_bytes = held_bytes

    def shrink(self, to_bytes: int) -> None:
        """Keep only `to_bytes`; what is more than that goes to whoever waits."""
        surplus = self.held_bytes - to_bytes
        if surplus > 0:
            self.held_bytes = to_bytes
            self._permits.give_back(surplus)


class BytePermits:
    """A semaphore over bytes, first come, first served, so that large permits do not starve."""

    def __init__(self, capacity_bytes: int) -> None:
        self._free_bytes = capacity_bytes
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free_bytes(self) -> int:
        return self._free_bytes

    @asynccontextmanager
    async def hold(self, amount_bytes: int, wait_seconds: float) -> AsyncIterator[Permit]:
        """Hold this many bytes for the length of the block.

        Raises `ResourceExhausted` UNARY_BUSY when they are not free within `wait_seconds`.
        """
        try:
            await self._take(amount_bytes, wait_seconds)
        except TimeoutError:
            raise ResourceExhausted(
                "UNARY_BUSY",
                "Too many bytes of unary chunks are under way; try again, or use UploadStream.",
                retry_after_seconds=1.0,
            ) from None
        permit = Permit(self, amount_bytes)
        try:
            yield permit
        finally:
            permit.shrink(0)

    def give_back(self, amount_bytes: int) -> None:
        self._free_bytes += amount_bytes
        self._serve_waiters()

    async def _take(self, amount_bytes: int, wait_seconds: float) -> None:
        if not self._waiters and self._free_bytes >= amount_bytes:
            self._free_bytes -= amount_bytes
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiters.append((amount_bytes, turn))
        try:
            async with asyncio.timeout(wait_seconds):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                # The bytes were handed over in the same moment in which the wait ended.
                self.give_back(amount_bytes)
            else:
                # Whoever gave back bytes since the wait was cut short has removed it already.
                with suppress(ValueError):
                    self._waiters.remove((amount_bytes, turn))
                self._serve_waiters()  # a smaller one behind may fit now
            raise

    def _serve_waiters(self) -> None:
        while self._waiters and self._free_bytes >= self._waiters[0][0]:
            amount_bytes, turn = self._waiters.popleft()
            if not turn.done():
                self._free_bytes -= amount_bytes
                turn.set_result(None)
