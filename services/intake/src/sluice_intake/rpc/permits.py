"""A bound on the bytes of unary messages that are in memory at once (rule 11).

How much of a message has arrived cannot be seen: gRPC hands it over whole. So a call holds a permit
for the largest message while its own arrives. A message that takes long keeps its permit only as
long as nobody waits for one; so a few slow callers cannot shut everybody out. Who waits is served
in a fair order: callers of tenants and connections that hold little first, and last the connections
that have kept others waiting lately.
"""

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

_BLAMED_SECONDS: Final = 60.0
_BLAMED_CONNECTIONS: Final = 10_000


class Owner(NamedTuple):
    """Who holds a permit."""

    tenant: str = ""
    connection: str = ""


_NOBODY: Final = Owner()


@dataclass(slots=True, eq=False)
class _Waiter:
    amount_bytes: int
    owner: Owner
    number: int
    turn: asyncio.Future[None]


class Permit:
    """Bytes somebody may have in memory. Only `BytePermits` makes one."""

    def __init__(self, permits: BytePermits, held_bytes: int, owner: Owner) -> None:
        self._permits = permits
        self.held_bytes = held_bytes
        self.owner = owner
        self.reading_since = 0.0
        self.is_revoked = False
        self._reading: asyncio.Timeout | None = None

    def shrink(self, to_bytes: int) -> None:
        """Keep only `to_bytes`; what is more than that goes to whoever waits."""
        surplus = self.held_bytes - to_bytes
        if surplus > 0:
            self.held_bytes = to_bytes
            self._permits.give_back(surplus)

    @asynccontextmanager
    async def reading(self, seconds: float) -> AsyncIterator[None]:
        """While the message arrives.

        Raises `TimeoutError` after this time; `ResourceExhausted` UNARY_BUSY when others waited for
        the permit.
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
        """End the reading: the permit comes back as soon as its holder has noticed."""
        if self._reading is not None and not self._reading.expired():
            self.is_revoked = True
            self._reading.reschedule(asyncio.get_running_loop().time())


class BytePermits:
    """A semaphore over bytes.

    `yield_seconds`: for how long a message may arrive under a permit while others wait for one.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.yield_seconds = 1.0
        self._free_bytes = capacity_bytes
        self._waiters: list[_Waiter] = []
        self._numbers = count()
        self._held: dict[Permit, None] = {}
        self._of_tenant: Counter[str] = Counter()
        self._of_connection: Counter[str] = Counter()
        self._blamed: OrderedDict[str, float] = OrderedDict()
        self._revoking: asyncio.TimerHandle | None = None

    @property
    def free_bytes(self) -> int:
        return self._free_bytes

    @asynccontextmanager
    async def hold(
        self, amount_bytes: int, wait_seconds: float, owner: Owner = _NOBODY
    ) -> AsyncIterator[Permit]:
        """Hold this many bytes for the length of the block.

        Raises `ResourceExhausted` UNARY_BUSY when they are not free within `wait_seconds`.
        """
        try:
            await self._take(amount_bytes, wait_seconds, owner)
        except TimeoutError:
            raise _busy() from None
        permit = Permit(self, amount_bytes, owner)
        self._held[permit] = None
        self._of_tenant[owner.tenant] += 1
        self._of_connection[owner.connection] += 1
        try:
            yield permit
        finally:
            del self._held[permit]
            _count_down(self._of_tenant, owner.tenant)
            _count_down(self._of_connection, owner.connection)
            permit.shrink(0)

    def give_back(self, amount_bytes: int) -> None:
        self._free_bytes += amount_bytes
        self._serve_waiters()

    def watch_readers(self) -> None:
        """While somebody waits: see to it that a slow reader makes room in time."""
        if self._revoking is not None or not self._waiters:
            return
        since = min((p.reading_since for p in self._held if p.is_reading), default=None)
        if since is not None:
            loop = asyncio.get_running_loop()
            self._revoking = loop.call_at(since + self.yield_seconds, self._revoke)

    def _revoke(self) -> None:
        """End the slow reader whose tenant and connection hold most, and of these the slowest."""
        self._revoking = None
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
                    self._of_tenant[permit.owner.tenant],
                    self._of_connection[permit.owner.connection],
                    now - permit.reading_since,
                ),
            )
            self._blame(victim.owner.connection)
            victim.revoke()
        self.watch_readers()

    def _blame(self, connection: str) -> None:
        self._blamed[connection] = time.monotonic()
        self._blamed.move_to_end(connection)
        if len(self._blamed) > _BLAMED_CONNECTIONS:
            self._blamed.popitem(last=False)

    def _is_blamed(self, connection: str) -> bool:
        at = self._blamed.get(connection)
        return at is not None and time.monotonic() - at < _BLAMED_SECONDS

    async def _take(self, amount_bytes: int, wait_seconds: float, owner: Owner) -> None:
        if not self._waiters and self._free_bytes >= amount_bytes:
            self._free_bytes -= amount_bytes
            return
        turn = asyncio.get_running_loop().create_future()
        waiter = _Waiter(amount_bytes, owner, next(self._numbers), turn)
        self._waiters.append(waiter)
        self.watch_readers()
        try:
            async with asyncio.timeout(wait_seconds):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                # The bytes were handed over in the same moment in which the wait ended.
                self.give_back(amount_bytes)
            else:
                # Whoever gave back bytes since the wait was cut short has removed it already.
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                self._serve_waiters()  # a smaller one behind may fit now
            raise

    def _serve_waiters(self) -> None:
        """Hand over in order, and never to one behind another: large permits must not starve."""
        while self._waiters:
            waiter = min(self._waiters, key=self._precedence)
            if waiter.turn.done():
                self._waiters.remove(waiter)
                continue
            if self._free_bytes < waiter.amount_bytes:
                return
            self._waiters.remove(waiter)
            self._free_bytes -= waiter.amount_bytes
            waiter.turn.set_result(None)

    def _precedence(self, waiter: _Waiter) -> tuple[bool, int, int, int]:
        owner = waiter.owner
        return (
            self._is_blamed(owner.connection),
            self._of_tenant[owner.tenant],
            self._of_connection[owner.connection],
            waiter.number,
        )


def _count_down(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


def _busy() -> ResourceExhausted:
    return ResourceExhausted(
        "UNARY_BUSY",
        "Too many bytes of unary chunks are under way; try again, or use UploadStream.",
        retry_after_seconds=1.0,
    )
