"""Circuit breaker for an object store."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum

from sluice_backends.s3.options import BreakerOptions
from sluice_core.errors import DeadlineExceeded, Unavailable

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

    @contextmanager
    def attempt(self, *, may_be_slow: bool = False) -> Iterator[BreakerCall]:
        """Admit a call that runs in the block, and count its outcome.

        Raise `Unavailable` STORE_CIRCUIT_OPEN instead while the breaker is open.

        Args:
            may_be_slow: do not count a long wait as slow.
        """
        call = self._admit()
        failed = False
        try:
            yield call
        except asyncio.CancelledError:
            call.neutral = True
            raise
        except _FAILURES:
            failed = True
            raise
        finally:
            slow = not may_be_slow and call.longest_wait_seconds > self._options.slow_seconds
            self._count(call, failed=failed, slow=slow)

    def _admit(self) -> BreakerCall:
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

    def _count(self, call: BreakerCall, *, failed: bool, slow: bool) -> None:
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


def _circuit_open(retry_after_seconds: float) -> Unavailable:
    return Unavailable(
        CIRCUIT_OPEN,
        "The object store failed too often and is not called for a while; try again later.",
        retry_after_seconds=retry_after_seconds,
    )
