"""A circuit breaker before an object store: a store that is down is asked rarely, not by everyone.

It looks at the last calls. When half of them failed, or half of them stood still for long, it
opens: every call is refused at once with `Unavailable` STORE_CIRCUIT_OPEN. After a while one call
is let through; by its outcome the breaker closes or stays open.

Failed means `Unavailable`, from the store: what the store answers to a bad request is no failure,
nor is what a body's source raises, nor a cancelled call. Slow is the longest wait between two signs
of progress, not the length of a call, for a large part on a thin line is none of the store's fault.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from enum import IntEnum
from typing import TypeVar

from sluice_backends.s3.options import BreakerOptions
from sluice_core.errors import DeadlineExceeded, Unavailable
from sluice_core.objects.body import closing
from sluice_core.ports.object_store import (
    Body,
    ObjectAttributes,
    ObjectInfo,
    ObjectStore,
    PartTag,
    PresignedPut,
)
from sluice_core.uploads.model import ObjectRef

T = TypeVar("T")

CIRCUIT_OPEN = "STORE_CIRCUIT_OPEN"
_PROBE_RETRY_SECONDS = 1.0
_FAILURES = (Unavailable, DeadlineExceeded, TimeoutError)


class BreakerState(IntEnum):
    """In the order of how bad it is; the number is what the gauge shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class BreakerCall:
    """One admitted call, and how long it waits for the store without a sign of progress.

    `epoch`: the state that admitted it; the end of a call that outlives it is no news. `neutral`:
    its end says nothing about the store.
    """

    def __init__(self, epoch: int, clock: Callable[[], float]) -> None:
        self.epoch = epoch
        self.neutral = False
        self._clock = clock
        self._longest = 0.0
        self._since: float | None = clock()

    def waits(self) -> None:
        """From now on it is the store that is waited for."""
        self._since = self._clock()

    def progressed(self) -> None:
        """The store has done something; until `waits` it is somebody else's turn."""
        if self._since is not None:
            self._longest = max(self._longest, self._clock() - self._since)
            self._since = None

    @property
    def longest_wait(self) -> float:
        self.progressed()
        return self._longest


class Breaker:
    """The decision, without I/O. Not thread-safe: one event loop.

    Args:
        on_state: told the state at the beginning and at every change.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        options: BreakerOptions,
        on_state: Callable[[BreakerState], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._on_state = on_state
        self._clock = clock
        self._epoch = 0
        self._outcomes: deque[tuple[bool, bool]] = deque(maxlen=options.window)
        self._opened_at = 0.0
        self._probing = False
        self._state = BreakerState.CLOSED
        on_state(self._state)

    @property
    def state(self) -> BreakerState:
        return self._state

    def admit(self) -> BreakerCall:
        """Raises `Unavailable` STORE_CIRCUIT_OPEN."""
        if self._state is BreakerState.OPEN:
            remaining = self._opened_at + self._options.open_seconds - self._clock()
            if remaining > 0:
                raise _circuit_open(remaining)
            self._enter(BreakerState.HALF_OPEN)
        if self._state is BreakerState.HALF_OPEN:
            if self._probing:
                raise _circuit_open(_PROBE_RETRY_SECONDS)
            self._probing = True
        return BreakerCall(self._epoch, self._clock)

    def ended(self, call: BreakerCall, *, failed: bool, may_be_slow: bool = False) -> None:
        slow = not may_be_slow and call.longest_wait > self._options.slow_seconds
        if call.epoch != self._epoch:
            return
        if call.neutral:
            self._probing = False
        elif self._state is BreakerState.HALF_OPEN:
            self._enter(BreakerState.OPEN if failed or slow else BreakerState.CLOSED)
        else:
            self._outcomes.append((failed, slow))
            # Only bad news opens it: a call that went well is no reason, whatever came before.
            if (failed or slow) and self._is_bad():
                self._enter(BreakerState.OPEN)

    def _is_bad(self) -> bool:
        count = len(self._outcomes)
        if count < self._options.min_calls:
            return False
        failed = sum(failed for failed, _ in self._outcomes)
        slow = sum(slow for _, slow in self._outcomes)
        return (
            failed >= self._options.failed_share * count or slow >= self._options.slow_share * count
        )

    def _enter(self, state: BreakerState) -> None:
        self._state = state
        self._epoch += 1
        self._outcomes.clear()
        self._probing = False
        if state is BreakerState.OPEN:
            self._opened_at = self._clock()
        self._on_state(state)


class BreakingObjectStore:
    """An `ObjectStore` that asks a breaker before it asks the store."""

    def __init__(
        self,
        store: ObjectStore,
        options: BreakerOptions | None = None,
        on_state: Callable[[BreakerState], None] = lambda state: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._breaker = Breaker(options or BreakerOptions(), on_state, clock)

    @property
    def state(self) -> BreakerState:
        return self._breaker.state

    async def check(self, bucket: str) -> None:
        await self._guarded(lambda _: self._store.check(bucket))

    async def put(self, ref: ObjectRef, body: Body, attributes: ObjectAttributes) -> ObjectInfo:
        return await self._guarded(
            lambda call: self._store.put(ref, _TimedBody(body, call), attributes)
        )

    async def open_multipart(self, ref: ObjectRef, attributes: ObjectAttributes) -> str:
        return await self._guarded(lambda _: self._store.open_multipart(ref, attributes))

    async def put_part(self, ref: ObjectRef, multipart_id: str, number: int, body: Body) -> PartTag:
        return await self._guarded(
            lambda call: self._store.put_part(ref, multipart_id, number, _TimedBody(body, call))
        )

    async def list_parts(self, ref: ObjectRef, multipart_id: str) -> Sequence[PartTag]:
        return await self._guarded(lambda _: self._store.list_parts(ref, multipart_id))

    async def open_multiparts(self, ref: ObjectRef) -> Sequence[str]:
        return await self._guarded(lambda _: self._store.open_multiparts(ref))

    async def complete_multipart(
        self, ref: ObjectRef, multipart_id: str, parts: Sequence[PartTag]
    ) -> ObjectInfo:
        # Putting 10,000 parts together may take minutes in a healthy store.
        return await self._guarded(
            lambda _: self._store.complete_multipart(ref, multipart_id, parts), may_be_slow=True
        )

    async def abort_multipart(self, ref: ObjectRef, multipart_id: str) -> None:
        await self._guarded(lambda _: self._store.abort_multipart(ref, multipart_id))

    async def read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        call = self._breaker.admit()
        failed = False
        try:
            async with closing(self._store.read(ref, offset, length)) as blocks:
                async for block in blocks:
                    call.progressed()
                    yield block
                    call.waits()
        except asyncio.CancelledError:
            call.neutral = True
            raise
        except _FAILURES:
            failed = True
            raise
        finally:
            self._breaker.ended(call, failed=failed)

    async def head(self, ref: ObjectRef) -> ObjectInfo | None:
        return await self._guarded(lambda _: self._store.head(ref))

    async def delete(self, ref: ObjectRef) -> None:
        await self._guarded(lambda _: self._store.delete(ref))

    async def presign_get(self, ref: ObjectRef, lifetime_seconds: int, filename: str) -> str:
        return await self._store.presign_get(ref, lifetime_seconds, filename)

    async def presign_put(
        self, ref: ObjectRef, lifetime_seconds: int, size: int, attributes: ObjectAttributes
    ) -> PresignedPut:
        return await self._store.presign_put(ref, lifetime_seconds, size, attributes)

    async def _guarded(
        self, work: Callable[[BreakerCall], Awaitable[T]], *, may_be_slow: bool = False
    ) -> T:
        call = self._breaker.admit()
        failed = False
        try:
            return await work(call)
        except asyncio.CancelledError:
            call.neutral = True
            raise
        except _FAILURES:
            failed = True
            raise
        finally:
            self._breaker.ended(call, failed=failed, may_be_slow=may_be_slow)


class _TimedBody:
    """A body that tells a call's waiting for the store from its waiting for the source."""

    def __init__(self, body: Body, call: BreakerCall) -> None:
        self._body = body
        self._call = call

    @property
    def size(self) -> int:
        return self._body.size

    @property
    def crc32c(self) -> int:
        return self._body.crc32c

    async def blocks(self) -> AsyncIterator[bytes]:
        self._call.progressed()
        self._call.neutral = True  # until the source has given a block, or has ended
        async with closing(self._body.blocks()) as blocks:
            async for block in blocks:
                self._call.neutral = False
                self._call.waits()
                yield block
                self._call.progressed()
                self._call.neutral = True
        self._call.neutral = False
        self._call.waits()


def _circuit_open(retry_after_seconds: float) -> Unavailable:
    return Unavailable(
        CIRCUIT_OPEN,
        "The object store failed too often and is left alone for a while; try again later.",
        retry_after_seconds=retry_after_seconds,
    )
