"""Schedules of a load: when each chunk is due (closed or open loop), and each block of a paced
stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class Schedule:
    """Assigns due chunks to any number of senders; `chunks` or `seconds` ends it.

    Open loop (`rate`, chunks per second over all senders): number k is due `k / rate` seconds after
    the start, whether or not a sender was free then. A late sender receives the original due time.
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

    def restart(self) -> None:
        """Begin now instead of when the schedule was made."""
        self._begun = self.clock()

    def end(self) -> None:
        """End the schedule: no further chunk is due."""
        self.chunks = self._taken

    async def take(self) -> float | None:
        """Wait for the next chunk that is due. Return when it was due, or None at the end."""
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
    """Due times of the blocks of one stream on a line of so many bytes per second.

    `due`: when the line starts, then when the previous block was transmitted. A block that was sent
    late does not delay the next ones: they are due as if it had been on time.
    """

    bytes_per_second: float
    due: float
    clock: Clock = time.perf_counter
    sleep: Sleep = asyncio.sleep

    async def take(self, size: int) -> float:
        """Wait until the line has carried so many more bytes. Return when that was due."""
        self.due += size / self.bytes_per_second
        if (wait := self.due - self.clock()) > 0:
            await self.sleep(wait)
        return self.due
