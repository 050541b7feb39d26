"""Bookkeeping of chunks: missing, in flight, or accepted. Pure, no I/O.

One byte of state and eight of checksum per chunk, so that a million chunks cost ten megabytes.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Collection, Iterable, Iterator

from sluice_client.model import ChunkRange, UploadStatus

_MISSING, _SENDING, _ACCEPTED = 0, 1, 2
_UNKNOWN_CRC = -1


def gaps(status: UploadStatus, total: int) -> tuple[list[ChunkRange], int]:
    """Return the missing ranges of `total` chunks in a status, in order, and the horizon.

    Chunks from the horizon on are unknown (horizon = total unless the list was truncated).

    While the server does not know the total, it lists only the gaps below the highest chunk that it
    has; with r chunks received and g missing below it, the tail starts at r + g.
    """
    ranges = [
        ChunkRange(gap.first, min(gap.last, total - 1))
        for gap in status.missing
        if gap.first < total
    ]
    if status.missing_truncated:
        if not ranges:
            # Nothing is known: count every chunk as missing. The server drops duplicates.
            return [ChunkRange(0, total - 1)], total
        return ranges, ranges[-1].last + 1
    if status.total_chunks is None:
        tail = status.received_chunks + sum(len(gap) for gap in status.missing)
    else:
        # Chunks that the caller took beyond an end unknown to it are missing as well.
        tail = status.total_chunks
    if tail < total:
        ranges.append(ChunkRange(tail, total - 1))
    return ranges, total


def missing_of(status: UploadStatus, numbers: Collection[int]) -> set[int]:
    """Return those of `numbers` that a status does not list as received."""
    if not numbers:
        return set()
    ranges, horizon = gaps(status, max(numbers) + 1)
    return {
        number
        for number in numbers
        if number >= horizon or any(gap.first <= number <= gap.last for gap in ranges)
    }


# Size: one state machine; most methods are queries of a line.
class Board:
    """The chunks of one upload.

    Args:
        total: number of chunks; None while the source has not ended.
    """

    def __init__(self, total: int | None) -> None:
        self.total = total
        self._states = bytearray(total or 0)
        self._crcs = array("q", [_UNKNOWN_CRC]) * (total or 0)
        self._next = 0
        """Every chunk from here on is missing and was never taken."""
        self._returned: list[int] = []
        """Heap of chunks below `_next` that became missing again."""
        self._preferred: int | None = None
        self._accepted = 0
        self._sending = 0
        self._horizon: int | None = None

    # -- queries

    @property
    def finished(self) -> bool:
        """Whether every chunk is accepted."""
        return self.total is not None and self._accepted == self.total

    @property
    def accepted_count(self) -> int:
        return self._accepted

    def is_accepted(self, number: int) -> bool:
        return number < len(self._states) and self._states[number] == _ACCEPTED

    def without_crc(self) -> Iterator[int]:
        """Yield the accepted chunks of unknown checksum: an earlier run sent them."""
        for number, state in enumerate(self._states):
            if state == _ACCEPTED and self._crcs[number] == _UNKNOWN_CRC:
                yield number

    def numbers_without_crc(self) -> list[int]:
        """Return all chunks of unknown checksum, accepted or not."""
        return [number for number, crc in enumerate(self._crcs) if crc == _UNKNOWN_CRC]

    def known_crcs(self) -> list[int] | None:
        """Return the checksums of all chunks in order, or None while one is unknown."""
        crcs = self._crcs.tolist()
        return None if self.total is None or _UNKNOWN_CRC in crcs else crcs

    # -- sending

    def take(self, above: int = -1) -> int | None:
        """Return the next chunk to send: the preferred one, else the lowest.

        Return None when there is none, or when it is not above `above`: another stream has to take
        it.
        """
        number = self._candidate()
        if number is None or number <= above:
            return None
        if number == self._preferred:
            self._preferred += 1
        return self._begin(number)

    def prefer(self, number: int) -> None:
        """Send this chunk first and continue from there. No-op unless it is missing."""
        self._preferred = number

    def returned(self) -> set[int]:
        """Return the chunks whose transfer failed and that are missing again."""
        return {number for number in self._returned if self._is_missing(number)}

    def note_crc(self, number: int, crc32c: int) -> None:
        self._grow(number)
        self._crcs[number] = crc32c

    def accept(self, number: int) -> bool:
        """Mark a chunk as accepted. Return whether it was not before."""
        self._grow(number)
        if self._states[number] == _ACCEPTED:
            return False
        self._sending -= self._states[number] == _SENDING
        self._states[number] = _ACCEPTED
        self._accepted += 1
        return True

    def give_back(self, number: int) -> None:
        """Mark a chunk that did not arrive as missing, unless the source ended before it."""
        if number < len(self._states) and self._states[number] == _SENDING:
            self._sending -= 1
            self._make_missing(number)

    def take_back(self, number: int) -> None:
        """Mark an accepted chunk as missing again (rule 8)."""
        if self._states[number] == _ACCEPTED:
            self._accepted -= 1
            self._make_missing(number)

    def end_at(self, total: int) -> None:
        """Set the number of chunks at the end of the source; discard chunks taken beyond it."""
        self.total = total
        for number in range(total, len(self._states)):
            self._sending -= self._states[number] == _SENDING
        del self._states[total:]
        del self._crcs[total:]
        self._next = min(self._next, total)

    # -- server status

    def apply(self, missing: Iterable[ChunkRange], horizon: int) -> tuple[list[int], list[int]]:
        """Apply a status while no stream is open.

        Return the chunks that turned out to be received, and the acknowledged ones that are
        missing; the caller decides on `take_back`.
        """
        assert self.total is not None
        self._recall()
        self._horizon = horizon
        received: list[int] = []
        lost: list[int] = []
        cursor = 0
        for gap in missing:
            received += filter(self.accept, range(cursor, gap.first))
            lost += filter(self.is_accepted, range(gap.first, gap.last + 1))
            cursor = gap.last + 1
        received += filter(self.accept, range(cursor, horizon))
        return received, lost

    def _recall(self) -> None:
        """Mark chunks in flight on closed streams as missing until the server reports otherwise."""
        if self._sending:
            for number, state in enumerate(self._states):
                if state == _SENDING:
                    self.give_back(number)

    # -- internals

    def _candidate(self) -> int | None:
        if self._preferred is not None:
            if self._is_missing(self._preferred):
                return self._preferred
            self._preferred = None
        while self._returned and not self._is_missing(self._returned[0]):
            heapq.heappop(self._returned)
        if self._returned:
            return self._returned[0]
        while self._next < len(self._states) and self._states[self._next] != _MISSING:
            self._next += 1
        return self._next if self._next < self._end() else None

    def _end(self) -> int:
        """Return the exclusive upper bound of the chunks that may be taken."""
        if self.total is None:
            return self._next + 1
        return self.total if self._horizon is None else min(self._horizon, self.total)

    def _is_missing(self, number: int) -> bool:
        if not 0 <= number < self._end():
            return False
        return number >= len(self._states) or self._states[number] == _MISSING

    def _begin(self, number: int) -> int:
        self._grow(number)
        self._states[number] = _SENDING
        self._sending += 1
        if number == self._next:
            self._next += 1
        return number

    def _make_missing(self, number: int) -> None:
        self._states[number] = _MISSING
        if number < self._next:
            heapq.heappush(self._returned, number)

    def _grow(self, number: int) -> None:
        lacking = number + 1 - len(self._states)
        if lacking > 0:
            self._states.extend(bytes(lacking))
            self._crcs.extend([_UNKNOWN_CRC] * lacking)
