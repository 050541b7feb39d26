"""Time that a piece of work may take, not counting how long it waits for its turn.

Whoever limits the time is far from where the turn is waited for: the limit is in the context of the
task, and whoever waits stops its clock.

    allowance = Allowance(25.0)
    async with allowance.spending():
        ...
        with allowance_paused():
            seat = await free_seats.get()
        ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

_spending: ContextVar[asyncio.Timeout | None] = ContextVar("spending", default=None)


class Allowance:
    """Seconds for all tries at one piece of work; spent by one task, one try after the other."""

    def __init__(self, seconds: float) -> None:
        self.left_seconds = seconds

    @asynccontextmanager
    async def spending(self) -> AsyncIterator[None]:
        """The time of the block is taken off; raises `TimeoutError` when nothing is left."""
        clock = asyncio.get_running_loop().time
        async with asyncio.timeout(self.left_seconds) as timeout:
            token = _spending.set(timeout)
            try:
                yield
            finally:
                _spending.reset(token)
                ends = timeout.when()
                assert ends is not None, "every block that is not counted has ended"
                self.left_seconds = max(0.0, ends - clock())

    def spend(self, seconds: float) -> None:
        """Take off what was spent outside, e.g. between two tries."""
        self.left_seconds = max(0.0, self.left_seconds - seconds)


def extend(seconds: float) -> None:
    """Give back time that this task has just spent, for a reason that is not its own."""
    timeout = _spending.get()
    ends = None if timeout is None else timeout.when()
    if timeout is not None and ends is not None and not timeout.expired():
        timeout.reschedule(ends + seconds)


@contextmanager
def allowance_paused() -> Iterator[None]:
    """The clock of the `Allowance` that this task spends, if there is one, stands still.

    For waiting on others only, and only where that ends by itself: nothing else ends it but a
    cancellation.
    """
    timeout = _spending.get()
    ends = None if timeout is None else timeout.when()
    if timeout is None or ends is None or timeout.expired():
        yield
        return
    clock = asyncio.get_running_loop().time
    left = ends - clock()
    timeout.reschedule(None)
    try:
        yield
    finally:
        timeout.reschedule(clock() + left)
