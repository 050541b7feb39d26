"""Fair byte permits that bound the unary messages in memory (rule 11)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final, NamedTuple

from sluice_core.errors import ResourceExhausted

_PENALTY_SECONDS: Final = 60.0
_MAX_PENALIZED: Final = 10_000


class Owner(NamedTuple):
    """The tenant and the connection that hold a permit."""

    tenant: str = ""
    connection: str = ""


_ANONYMOUS: Final = Owner()


@dataclass(slots=True, eq=False)
class _Waiter:
    amount_bytes: int
    owner: Owner
    number: int
    granted: asyncio.Future[None]


class Permit:
    """Bytes that one call may hold in memory. Only `BytePermits` creates one."""

    def __init__(self, permits: BytePermits, held_bytes: int, owner: Owner) -> None:
        self._permits = permits
        self.held_bytes = held_bytes
        self.owner = owner
        self.reading_since = 0.0
        self.is_revoked = False
        self._reading: asyncio.Timeout | None = None

    def shrink(self, to_bytes: int) -> None:
        """Keep only `to_bytes` and release the rest to the waiting calls."""
        surplus = self.held_bytes - to_bytes
        if surplus > 0:
            self.held_bytes = to_bytes
            self._permits.release(surplus)

    @asynccontextmanager
    async def reading(self, seconds: float) -> AsyncIterator[None]:
        """Mark the permit as reading while the message arrives.

        Raise `TimeoutError` after `seconds`; `ResourceExhausted` UNARY_BUSY when the permit was
        revoked because others waited for it.
        """
        loop = asyncio.get_running_loop()
        self.reading_since = loop.time()
        try:
            async with asyncio.timeout(seconds) as self._reading:
                self._permits.watch_readers()
                yield
        except TimeoutError:
            if self.is_revoked:
                raise _busy() from None
            raise
        finally:
            self._reading = None

    @property
    def is_reading(self) -> bool:
        return self._reading is not None and not self.is_revoked

    def revoke(self) -> None:
        """Cancel the reading; the holder then releases the permit."""
        if self._reading is not None and not self._reading.expired():
            self.is_revoked = True
            self._reading.reschedule(asyncio.get_running_loop().time())


class BytePermits:
    """A fair semaphore over bytes.

    gRPC delivers a message whole and does not report partial arrival. A call therefore holds a
    permit for the largest message while its own arrives. A slow message keeps its permit only
    while no call waits for one, so that a few slow callers cannot block all others. Callers whose
    tenant and connection hold few permits are served first; connections that recently kept others
    waiting are served last.

    `yield_seconds`: how long a message may take to arrive while others wait for a permit.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.yield_seconds = 1.0
        self._free_bytes = capacity_bytes
        self._waiters: list[_Waiter] = []
        self._numbers = count()
        self._held: dict[Permit, None] = {}
        self._by_tenant: Counter[str] = Counter()
        self._by_connection: Counter[str] = Counter()
        self._penalized_at: OrderedDict[str, float] = OrderedDict()
        self._revoke_timer: asyncio.TimerHandle | None = None

    @property
    def free_bytes(self) -> int:
        return self._free_bytes

    @asynccontextmanager
    async def hold(
        self, amount_bytes: int, wait_seconds: float, owner: Owner = _ANONYMOUS
    ) -> AsyncIterator[Permit]:
        """Hold `amount_bytes` while the block runs.

        Raise `ResourceExhausted` UNARY_BUSY when they are not free within `wait_seconds`.
        """
        try:
            await self._acquire(amount_bytes, wait_seconds, owner)
        except TimeoutError:
            raise _busy() from None
        permit = Permit(self, amount_bytes, owner)
        self._held[permit] = None
        self._by_tenant[owner.tenant] += 1
        self._by_connection[owner.connection] += 1
        try:
            yield permit
        finally:
            del self._held[permit]
            _decrement(self._by_tenant, owner.tenant)
            _decrement(self._by_connection, owner.connection)
            permit.shrink(0)

    def release(self, amount_bytes: int) -> None:
        self._free_bytes += amount_bytes
        self._serve_waiters()

    def watch_readers(self) -> None:
        """Schedule the revocation of the slowest reader if a call waits for a permit."""
        if self._revoke_timer is not None or not self._waiters:
            return
        since = min((p.reading_since for p in self._held if p.is_reading), default=None)
        if since is not None:
            loop = asyncio.get_running_loop()
            self._revoke_timer = loop.call_at(since + self.yield_seconds, self._revoke)

    def _revoke(self) -> None:
        """Revoke a slow reader: most permits of tenant, then of connection, then the slowest."""
        self._revoke_timer = None
        if not self._waiters:
            return
        now = asyncio.get_running_loop().time()
        slow = [
            permit
            for permit in self._held
            if permit.is_reading and now - permit.reading_since >= self.yield_seconds
        ]
        if slow:
            victim = max(
                slow,
                key=lambda permit: (
                    self._by_tenant[permit.owner.tenant],
                    self._by_connection[permit.owner.connection],
                    now - permit.reading_since,
                ),
            )
            self._penalize(victim.owner.connection)
            victim.revoke()
        self.watch_readers()

    def _penalize(self, connection: str) -> None:
        self._penalized_at[connection] = time.monotonic()
        self._penalized_at.move_to_end(connection)
        if len(self._penalized_at) > _MAX_PENALIZED:
            self._penalized_at.popitem(last=False)

    def _is_penalized(self, connection: str) -> bool:
        at = self._penalized_at.get(connection)
        return at is not None and time.monotonic() - at < _PENALTY_SECONDS

    async def _acquire(self, amount_bytes: int, wait_seconds: float, owner: Owner) -> None:
        if not self._waiters and self._free_bytes >= amount_bytes:
            self._free_bytes -= amount_bytes
            return
        granted = asyncio.get_running_loop().create_future()
        waiter = _Waiter(amount_bytes, owner, next(self._numbers), granted)
        self._waiters.append(waiter)
        self.watch_readers()
        try:
            async with asyncio.timeout(wait_seconds):
                await granted
        except BaseException:
            if granted.done() and not granted.cancelled():
                # The bytes were granted at the same moment in which the wait ended.
                self.release(amount_bytes)
            else:
                # A release since the cancellation may have removed the waiter already.
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                self._serve_waiters()  # a smaller request behind it may fit now
            raise

    def _serve_waiters(self) -> None:
        """Grant permits strictly in order of precedence, so that large requests do not starve."""
        while self._waiters:
            waiter = min(self._waiters, key=self._precedence)
            if waiter.granted.done():
                self._waiters.remove(waiter)
                continue
            if self._free_bytes < waiter.amount_bytes:
                return
            self._waiters.remove(waiter)
            self._free_bytes -= waiter.amount_bytes
            waiter.granted.set_result(None)

    def _precedence(self, waiter: _Waiter) -> tuple[bool, int, int, int]:
        owner = waiter.owner
        return (
            self._is_penalized(owner.connection),
            self._by_tenant[owner.tenant],
            self._by_connection[owner.connection],
            waiter.number,
        )


def _decrement(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def _busy() -> ResourceExhausted:
    return ResourceExhausted(
        "UNARY_BUSY",
        "Too many bytes of unary chunks are in transit; try again, or use UploadStream.",
        retry_after_seconds=1.0,
    )
