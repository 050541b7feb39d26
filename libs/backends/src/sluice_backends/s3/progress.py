"""A time limit on standing still, instead of one on the whole: a large part may take its time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

_SLACK = 0.05
"""By this share it may come late, so that a sign of progress need not set the clock each time."""


class StallTimeout:
    """Like `asyncio.timeout`, but `alive` starts it again and `paused` stops it.

    Other tasks than the one in the block may call those two, also after it has ended.
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

    def alive(self) -> None:
        """Something moved."""
        now, when = asyncio.get_running_loop().time(), self._timeout.when()
        if when is None or when < now + self._seconds:
            self._reschedule(now + self._seconds * (1 + _SLACK))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """For waiting that is not the store's doing."""
        self._reschedule(None)
        try:
            yield
        finally:
            self.alive()

    def _reschedule(self, when: float | None) -> None:
        if self._running and not self._timeout.expired():
            self._timeout.reschedule(when)
