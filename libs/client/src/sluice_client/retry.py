"""Retry policy of the SDK, the only layer that retries (gRPC's own retries are off)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sluice_client.errors import SluiceError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter, limited by the time without progress."""

    first_delay_seconds: float = 0.1
    longest_delay_seconds: float = 10.0
    patience_seconds: float = 600.0
    """Stop retrying after this long without any progress."""
    connect_patience_seconds: float = 5.0
    """The same while the server has never answered: a wrong address fails fast."""

    def __post_init__(self) -> None:
        if not 0 < self.first_delay_seconds <= self.longest_delay_seconds:
            raise ValueError("0 < first_delay_seconds <= longest_delay_seconds")
        if min(self.patience_seconds, self.connect_patience_seconds) < 0:
            raise ValueError("patience_seconds and connect_patience_seconds start at 0")

    def delay_seconds(
        self, attempt: int, retry_after_seconds: float | None, chance: float
    ) -> float:
        """Return the wait before attempt `attempt + 1`; `chance` is uniform in [0, 1).

        The wait is never shorter than the server's own delay. Jitter is added to it, so that
        callers refused together do not return together.
        """
        ceiling = min(
            self.longest_delay_seconds, self.first_delay_seconds * 2.0 ** min(attempt, 30)
        )
        if retry_after_seconds is None:
            return ceiling * chance
        return retry_after_seconds + min(ceiling, retry_after_seconds) * chance


class Patience:
    """Retry budget of one operation, shared by all of its tasks.

    `progressed` restarts the clock: an upload that gets one chunk through per minute continues for
    ever; one that gets nothing through ends after `patience_seconds`.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        reached: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._reached = reached
        self._clock = clock
        self._sleep = sleep
        self._chance = chance
        self._since = clock()
        self.on_wait: Callable[[SluiceError, float], None] | None = None
        """Called before each wait: the cause, and the time without progress when the wait ends."""

    @property
    def policy(self) -> RetryPolicy:
        return self._policy

    @property
    def idle_seconds(self) -> float:
        """Time since the last progress."""
        return self._clock() - self._since

    def progressed(self) -> None:
        self._since = self._clock()

    async def pause(self, error: SluiceError, attempt: int) -> None:
        """Wait before the next attempt, or raise `error` when there is none.

        Args:
            error: of the failed attempt; raised when it is not retryable or patience is exhausted.
            attempt: consecutive failed attempts before this one.
        """
        if not error.retryable:
            raise error
        delay = self._policy.delay_seconds(attempt, error.retry_after_seconds, self._chance())
        limit = (
            self._policy.patience_seconds
            if self._reached()
            else self._policy.connect_patience_seconds
        )
        left = limit - self.idle_seconds
        requested = error.retry_after_seconds or 0.0
        if left <= 0 or requested > left:
            raise error
        # Make the last attempt when patience ends; do not skip it because the backoff overshoots.
        delay = min(delay, left)
        if self.on_wait is not None:
            self.on_wait(error, self.idle_seconds + delay)
        await self._sleep(delay)


async def retrying(call: Callable[[], Awaitable[T]], patience: Patience) -> T:
    """Return the answer of `call`, retried while its error is retryable and patience lasts."""
    attempt = 0
    while True:
        try:
            answer = await call()
        except SluiceError as error:
            await patience.pause(error, attempt)
            attempt += 1
        else:
            patience.progressed()
            return answer
