"""When the next chunk is due: at once (closed loop), or at a constant rate (open loop). And when
the next block of a stream is, if it has a pace of its own, as a client behind a slow line has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class Schedule:
    """Hands out what is due, to any number of senders; `chunks` or `seconds` ends it.

    Open loop (`rate`, chunks per second over all senders): number k is due `k / rate` seconds after
    the beginning, whether or not anybody was free then. Who takes it late is told when it was due.
    """

    chunks: int | None = None
    seconds: float | None = None
    rate: float | None = None
    clock: Clock = time.perf_counter
    sleep: Sleep = asyncio.sleep
    _taken: int = 0
    _begun: float = field(init=False)

    def __post_init__(self) -> None:
        if self.chunks is None and self.seconds is None:
            raise ValueError("a schedule ends after so many chunks or after so many seconds")
        self._begun = self.clock()

    async def take(self) -> float | None:
        """Wait for the next chunk that is due; the time at which it was. None: no more."""
        if self.chunks is not None and self._taken >= self.chunks:
            return None
        now = self.clock()
        due = now if self.rate is None else self._begun + self._taken / self.rate
        if self.seconds is not None and max(due, now) - self._begun >= self.seconds:
            return None
        self._taken += 1
        if due > now:
            await self.sleep(due - now)
        return due


@dataclass(slots=True)
class Pace:
    """When the blocks of one stream are due that comes in over a line of so many bytes per second.

    `due`: when the line begins, then when the block before was over it. A block that could not be
    sent in time does not delay those after it: they are due as if it had been.
    """

    bytes_per_second: float
    due: float
    clock: Clock = time.perf_counter
    sleep: Sleep = asyncio.sleep

    async def take(self, size: int) -> float:
        """Wait until so many more bytes are over the line; the time at which they were due."""
        self.due += size / self.bytes_per_second
        if (wait := self.due - self.clock()) > 0:
            await self.sleep(wait)
        return self.due
