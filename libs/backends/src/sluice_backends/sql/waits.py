"""How long calls wait for a connection of the database."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

WINDOW_SECONDS: Final = 10


class ConnectionWaits:
    """The longest wait of late, those included that have not ended.

    Bounded: of the waits that ended it keeps the longest of each second of the window.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._numbers = itertools.count()
        # In the order of their beginnings, so the first is the longest.
        self._waiting: dict[int, float] = {}
        self._ended: deque[tuple[int, float]] = deque()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Measure the wait in the block, however it ends."""
        number, began = next(self._numbers), self._clock()
        self._waiting[number] = began
        try:
            yield
        finally:
            del self._waiting[number]
            self._note(self._clock() - began)

    @property
    def longest_seconds(self) -> float:
        """Return the longest wait that ended within the window or goes on; 0 without any."""
        now = self._clock()
        self._forget(now)
        waited = [seconds for _, seconds in self._ended]
        waited += [now - began for began in itertools.islice(self._waiting.values(), 1)]
        return max(waited, default=0.0)

    def _note(self, seconds: float) -> None:
        now = self._clock()
        self._forget(now)
        second = int(now)
        if self._ended and self._ended[-1][0] == second:
            seconds = max(seconds, self._ended.pop()[1])
        self._ended.append((second, seconds))

    def _forget(self, now: float) -> None:
        while self._ended and self._ended[0][0] < now - WINDOW_SECONDS:
            self._ended.popleft()
