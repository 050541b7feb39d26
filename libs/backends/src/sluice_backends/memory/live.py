"""Live updates in the memory of one process."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from sluice_core.concurrency.notifier import Notifier
from sluice_core.live.log import DEFAULT_CAPACITY, Entry, LiveLog, next_sequence
from sluice_core.live.updates import Audience, ProgressTick, Update, merge_tick, merge_update
from sluice_core.ports.live_updates import Listening

RETENTION_SECONDS: Final = 600.0
"""How long a log outlives its last change: clients that come back later get a snapshot."""

_FIRST_SWEEP: Final = 1_000
_SECOND_US: Final = 1_000_000


@dataclass(slots=True)
class _Kept:
    log: LiveLog
    changed_at: float


class MemoryLiveUpdates:
    """`LiveUpdates` of one process.

    Args:
        capacity: photos and jobs in a user's log.
        clock: Unix seconds.
    """

    def __init__(
        self,
        capacity: int = DEFAULT_CAPACITY,
        retention_seconds: float = RETENTION_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._capacity = capacity
        self._retention_seconds = retention_seconds
        self._clock = clock
        self._kept: dict[Audience, _Kept] = {}
        self._sweep_at = _FIRST_SWEEP
        self._listeners = Notifier()

    async def publish(self, audience: Audience, updates: Sequence[Update]) -> None:
        log = self._log_of(audience)
        merged = (merge_update(log.find(update.key), update) for update in updates)
        self._append(audience, log, merged)

    async def post_progress(self, audience: Audience, ticks: Sequence[ProgressTick]) -> None:
        log = self._log_of(audience)
        merged = (merge_tick(log.find(tick.photo_id), tick) for tick in ticks)
        self._append(audience, log, merged)

    async def latest(self, audience: Audience, keys: Sequence[str]) -> list[Update | None]:
        kept = self._kept.get(audience)
        return [None if kept is None else kept.log.find(key) for key in keys]

    @asynccontextmanager
    async def listen(self, audience: Audience) -> AsyncIterator[Listening]:
        with self._listeners.listen(_name(audience)) as changed:
            yield Listening(self._log_of(audience), changed)

    @property
    def audience_count(self) -> int:
        """Number of logs in memory."""
        return len(self._kept)

    def _log_of(self, audience: Audience) -> LiveLog:
        kept = self._kept.get(audience)
        if kept is None:
            if len(self._kept) >= self._sweep_at:
                self._forget_idle()
            now = self._clock()
            log = LiveLog(next_sequence(0, int(now * _SECOND_US)), self._capacity)
            kept = self._kept[audience] = _Kept(log, now)
        return kept.log

    def _append(self, audience: Audience, log: LiveLog, merged: Iterator[Update | None]) -> None:
        before, now = log.last, self._clock()
        for update in merged:
            if update is not None:
                log.append(Entry(next_sequence(log.last, int(now * _SECOND_US)), update))
        if log.last != before:
            self._kept[audience].changed_at = now
            self._listeners.notify([_name(audience)])

    def _forget_idle(self) -> None:
        """Drop the logs without a listener and without a recent change."""
        listened = self._listeners.waited_for()
        oldest = self._clock() - self._retention_seconds
        self._kept = {
            audience: kept
            for audience, kept in self._kept.items()
            if kept.changed_at > oldest or _name(audience) in listened
        }
        # Twice as many as remained: each sweep costs no more than the calls since the last one.
        self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._kept))


def _name(audience: Audience) -> str:
    return f"{audience.tenant}\0{audience.subject}"
