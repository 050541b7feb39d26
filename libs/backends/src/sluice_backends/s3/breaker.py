"""Circuit breaker for an object store."""

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
    """State of the breaker, ordered by severity; the number is the value of the gauge."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class BreakerCall:
    """One admitted call and its longest wait for the store without progress.

    Attributes:
        epoch: number of the state that admitted the call. The outcome of a call that outlives its
            state is ignored.
        neutral: the outcome of the call says nothing about the store.
    """

    def __init__(self, epoch: int, clock: Callable[[], float]) -> None:
        self.epoch = epoch
        self.neutral = False
        self._clock = clock
        self._longest_seconds = 0.0
        self._since: float | None = clock()

    def start_wait(self) -> None:
        """Start to measure a wait for the store."""
        self._since = self._clock()

    def end_wait(self) -> None:
        """Record progress of the store; time until `start_wait` does not count."""
        if self._since is not None:
            self._longest_seconds = max(self._longest_seconds, self._clock() - self._since)
            self._since = None

    @property
    def longest_wait_seconds(self) -> float:
        self.end_wait()
        return self._longest_seconds


class Breaker:
    """State machine of the circuit breaker, without I/O. Not thread-safe: one event loop.

    The breaker opens when half of the last calls failed or were slow. While it is open, every call
    is rejected immediately with `Unavailable` STORE_CIRCUIT_OPEN. After `open_seconds` one probe
    call is admitted; its outcome closes or reopens the breaker.

    A call fails with `Unavailable` from the store. A rejection of a bad request, an error of the
    body's source and a cancelled call are no failures. Slow means a long wait between two signs of
    progress, not a long call: a large part on a slow network is not the fault of the store.

    Args:
        on_state: called with the initial state and with every new one.
        clock: monotonic time in seconds.
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
        """Admit a call. Raises `Unavailable` STORE_CIRCUIT_OPEN."""
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

    def record_outcome(self, call: BreakerCall, *, failed: bool, may_be_slow: bool = False) -> None:
        """Record the outcome of an admitted call and update the state."""
        slow = not may_be_slow and call.longest_wait_seconds > self._options.slow_seconds
        if call.epoch != self._epoch:
            return
        if call.neutral:
            self._probing = False
        elif self._state is BreakerState.HALF_OPEN:
            self._enter(BreakerState.OPEN if failed or slow else BreakerState.CLOSED)
        else:
            self._outcomes.append((failed, slow))
            # A successful call never opens the breaker, whatever preceded it.
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


class CircuitBreakerObjectStore:
    """An `ObjectStore` whose calls pass a circuit breaker."""

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
        await self._call_store(lambda _: self._store.check(bucket))

    async def put(self, ref: ObjectRef, body: Body, attributes: ObjectAttributes) -> ObjectInfo:
        return await self._call_store(
            lambda call: self._store.put(ref, _TimedBody(body, call), attributes)
        )

    async def open_multipart(self, ref: ObjectRef, attributes: ObjectAttributes) -> str:
        return await self._call_store(lambda _: self._store.open_multipart(ref, attributes))

    async def put_part(self, ref: ObjectRef, multipart_id: str, number: int, body: Body) -> PartTag:
        return await self._call_store(
            lambda call: self._store.put_part(ref, multipart_id, number, _TimedBody(body, call))
        )

    async def list_parts(self, ref: ObjectRef, multipart_id: str) -> Sequence[PartTag]:
        return await self._call_store(lambda _: self._store.list_parts(ref, multipart_id))

    async def open_multiparts(self, ref: ObjectRef) -> Sequence[str]:
        return await self._call_store(lambda _: self._store.open_multiparts(ref))

    async def complete_multipart(
        self, ref: ObjectRef, multipart_id: str, parts: Sequence[PartTag]
    ) -> ObjectInfo:
        # Assembling 10,000 parts may take minutes in a healthy store.
        return await self._call_store(
            lambda _: self._store.complete_multipart(ref, multipart_id, parts), may_be_slow=True
        )

    async def abort_multipart(self, ref: ObjectRef, multipart_id: str) -> None:
        await self._call_store(lambda _: self._store.abort_multipart(ref, multipart_id))

    async def read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        call = self._breaker.admit()
        failed = False
        try:
            async with closing(self._store.read(ref, offset, length)) as blocks:
                async for block in blocks:
                    call.end_wait()
                    yield block
                    call.start_wait()
        except asyncio.CancelledError:
            call.neutral = True
            raise
        except _FAILURES:
            failed = True
            raise
        finally:
            self._breaker.record_outcome(call, failed=failed)

    async def head(self, ref: ObjectRef) -> ObjectInfo | None:
        return await self._call_store(lambda _: self._store.head(ref))

    async def delete(self, ref: ObjectRef) -> None:
        await self._call_store(lambda _: self._store.delete(ref))

    async def presign_get(self, ref: ObjectRef, lifetime_seconds: int, filename: str) -> str:
        return await self._store.presign_get(ref, lifetime_seconds, filename)

    async def presign_put(
        self, ref: ObjectRef, lifetime_seconds: int, size: int, attributes: ObjectAttributes
    ) -> PresignedPut:
        return await self._store.presign_put(ref, lifetime_seconds, size, attributes)

    async def _call_store(
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
            self._breaker.record_outcome(call, failed=failed, may_be_slow=may_be_slow)


class _TimedBody:
    """A body that separates the wait for the store from the wait for the body's source."""

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
        self._call.end_wait()
        self._call.neutral = True  # until the source has yielded a block or ended
        async with closing(self._body.blocks()) as blocks:
            async for block in blocks:
                self._call.neutral = False
                self._call.start_wait()
                yield block
                self._call.end_wait()
                self._call.neutral = True
        self._call.neutral = False
        self._call.start_wait()


def _circuit_open(retry_after_seconds: float) -> Unavailable:
    return Unavailable(
        CIRCUIT_OPEN,
        "The object store failed too often and is not called for a while; try again later.",
        retry_after_seconds=retry_after_seconds,
    )
