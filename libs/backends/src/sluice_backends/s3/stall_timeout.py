"""Timeout on missing progress instead of total duration: a large part may take long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

_SLACK = 0.05
"""Share by which the timeout may be late, so that not every `reset` reschedules it."""


class StallTimeout:
    """An `asyncio.timeout` that `reset` restarts and `paused` suspends.

    Both may be called by other tasks than the one in the block, even after the block ended.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)
        self._running = False

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._running = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running = False
        await self._timeout.__aexit__(exc_type, exc, traceback)

    def reset(self) -> None:
        """Restart the timeout after progress."""
        now, when = asyncio.get_running_loop().time(), self._timeout.when()
        if when is None or when < now + self._seconds:
            self._reschedule(now + self._seconds * (1 + _SLACK))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Suspend the timeout during a wait that the store does not cause."""
        self._reschedule(None)
        try:
            yield
        finally:
            self.reset()

    def _reschedule(self, when: float | None) -> None:
        if self._running and not self._timeout.expired():
            self._timeout.reschedule(when)
