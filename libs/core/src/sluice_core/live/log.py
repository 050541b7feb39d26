"""The log of a user's updates: the newest state of each photo, by sequence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from sluice_core.live.updates import Update

DEFAULT_CAPACITY: Final = 2_000
"""Photos and jobs in a log: two of the largest jobs. About 200 bytes each."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An update and its sequence."""

    sequence: int
    update: Update


class LiveLog:
    """Log that keeps the newest update of each photo and job, at most `capacity` of them.

    A reader needs only the sequence up to which it has read, its cursor. So nothing is queued for
    a reader, however slow, and a reader that comes back continues where it was. `after` answers
    None when the log cannot say what the reader missed; the reader then needs a snapshot.

    Sequences grow, with gaps. They are times in microseconds where the log does not know better
    (`next_sequence`), so a log that is lost and begun again does not repeat numbers: cursors of
    the lost one are below its floor.

    Args:
        floor: sequence up to which the log knows nothing.
    """

    def __init__(self, floor: int, capacity: int = DEFAULT_CAPACITY) -> None:
        if capacity < 1:
            raise ValueError("a log has room for at least one entry")
        self._capacity = capacity
        self._entries: dict[str, Entry] = {}  # in the order of their sequence
        self._floor = self._last = floor

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def last(self) -> int:
        """Sequence of the newest update, the cursor of a reader that has seen everything."""
        return self._last

    @property
    def floor(self) -> int:
        """Lowest cursor that the log can continue from."""
        return self._floor

    def find(self, key: str) -> Update | None:
        """Return the known state of a photo or job."""
        entry = self._entries.get(key)
        return None if entry is None else entry.update

    def append(self, entry: Entry) -> None:
        """Replace the state of the entry's photo; drop the oldest entry when there are too many."""
        if entry.sequence <= self._last:
            raise ValueError("sequences only grow")
        key = entry.update.key
        self._entries.pop(key, None)
        self._entries[key] = entry
        self._last = entry.sequence
        if len(self._entries) > self._capacity:
            dropped = self._entries.pop(next(iter(self._entries)))
            self._floor = dropped.sequence

    def after(self, cursor: int, at_most: int | None = None) -> list[Entry] | None:
        """Return the entries after a cursor in order, at most so many; None needs a snapshot."""
        if not self._floor <= cursor <= self._last:
            return None
        newest_first = []
        for entry in reversed(self._entries.values()):
            if entry.sequence <= cursor:
                break
            newest_first.append(entry)
        return list(islice(reversed(newest_first), at_most))

    def restart(self, entries: Iterable[Entry], floor: int, last: int) -> None:
        """Replace everything: the log that this one copies was lost, or has dropped too much."""
        self._entries.clear()
        self._floor = self._last = floor
        for entry in entries:
            self.append(entry)
        self._last = max(last, self._last)


def next_sequence(last: int, now_us: int) -> int:
    """Return the sequence after `last` at this time (Unix microseconds).

    At least the time, so that numbers never repeat after a loss, even one of the newest entries
    only, such as a failover to a replica that lagged. Below 2**53 until the year 2255, so JSON
    numbers and Redis scores are exact.
    """
    return max(last + 1, now_us)
