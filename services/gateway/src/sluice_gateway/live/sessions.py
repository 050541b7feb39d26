"""The open sessions of a replica: how many there may be, and how all of them end."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sluice_core.errors import ResourceExhausted, Unavailable
from sluice_core.live.updates import Audience
from sluice_gateway.live.options import LiveOptions

OnStop = Callable[[float], None]
"""Called when the replica stops, with the seconds after which the client should come back."""


class Sessions:
    """Counts sessions, and ends them when the replica stops. One event loop."""

    def __init__(self, options: LiveOptions, spread: Callable[[], float] = random.random) -> None:
        self._options = options
        self._spread = spread
        self._open: set[OnStop] = set()
        self._of_user: Counter[Audience] = Counter()
        self._drained = asyncio.Event()
        self._drained.set()
        self.is_stopping = False

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def open_session(self, on_stop: OnStop) -> Iterator[None]:
        """Count a session during the block.

        Raise `Unavailable` when the replica stops, `ResourceExhausted` when it has enough.
        """
        if self.is_stopping:
            raise Unavailable(
                "STOPPING",
                "This replica stops; connect again, another one answers.",
                retry_after_seconds=self._retry_seconds(),
            )
        if len(self._open) >= self._options.max_sessions:
            raise ResourceExhausted(
                "TOO_MANY_SESSIONS",
                "This replica has no room for another session; connect again in a moment.",
                retry_after_seconds=self._retry_seconds(),
            )
        self._open.add(on_stop)
        self._drained.clear()
        try:
            yield
        finally:
            self._open.discard(on_stop)
            if not self._open:
                self._drained.set()

    @contextmanager
    def of_user(self, user: Audience) -> Iterator[None]:
        """Count an open session for its user during the block, once the user is known.

        Raise `ResourceExhausted` when the user has enough.
        """
        if self._of_user[user] >= self._options.max_sessions_per_user:
            raise ResourceExhausted(
                "TOO_MANY_SESSIONS_OF_USER",
                "You have too many open sessions; close some, then connect again.",
                retry_after_seconds=self._retry_seconds(),
            )
        self._of_user[user] += 1
        try:
            yield
        finally:
            self._of_user[user] -= 1
            if not self._of_user[user]:
                del self._of_user[user]

    async def stop(self) -> None:
        """Accept no more sessions, end the open ones and wait until they have ended.

        Each client is given another time to come back, so that they do not all meet the remaining
        replicas at once. Sessions bound their own ends by `write_seconds`.
        """
        self.is_stopping = True
        for on_stop in list(self._open):
            on_stop(self._retry_seconds())
        await self._drained.wait()

    def _retry_seconds(self) -> float:
        return self._spread() * self._options.restart_spread_seconds
