"""Time limits that do not count the time spent waiting for shared resources."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

_spending: ContextVar[asyncio.Timeout | None] = ContextVar("spending", default=None)


class Allowance:
    """Time limit, in seconds, shared by all attempts at one task; attempts run one at a time.

    The limit is a context variable, because the code that sets it is far from the code that waits
    for a resource and pauses the clock:

        allowance = Allowance(25.0)
        async with allowance.spending():
            ...
            with allowance_paused():
                connection = await pool.get()
            ...
    """

    def __init__(self, seconds: float) -> None:
        self.left_seconds = seconds

    @asynccontextmanager
    async def spending(self) -> AsyncIterator[None]:
        """Charge the duration of the block; raise `TimeoutError` when the limit is used up."""
        clock = asyncio.get_running_loop().time
        async with asyncio.timeout(self.left_seconds) as timeout:
            token = _spending.set(timeout)
            try:
                yield
            finally:
                _spending.reset(token)
                ends = timeout.when()
                assert ends is not None, "every `allowance_paused` block has ended"
                self.left_seconds = max(0.0, ends - clock())

    def spend(self, seconds: float) -> None:
        """Charge time spent outside `spending`, e.g. between two attempts."""
        self.left_seconds = max(0.0, self.left_seconds - seconds)


def extend(seconds: float) -> None:
    """Refund time that the current task spent for reasons outside its control."""
    timeout = _spending.get()
    ends = None if timeout is None else timeout.when()
    if timeout is not None and ends is not None and not timeout.expired():
        timeout.reschedule(ends + seconds)


@contextmanager
def allowance_paused() -> Iterator[None]:
    """Pause the clock of the current task's `Allowance`, if it has one.

    Only for waits that are bounded elsewhere: no timeout applies inside the block, only
    cancellation ends it.
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
