"""Which chunks are where: missing, on their way, or accepted. Pure bookkeeping, no I/O.

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
    """What a status says is missing of `total` chunks, and up to where it says anything.

    Returns the ranges in order and the horizon: nothing is known of the chunks from there on
    (horizon = total unless the list was cut short).

    While the server does not know the total it names only the gaps below the highest chunk that
    it has; with r chunks received and g missing below it, the tail starts at r + g.
    """
    ranges = [
        ChunkRange(gap.first, min(gap.last, total - 1))
        for gap in status.missing
        if gap.first < total
    ]
    if status.missing_truncated:
        if not ranges:
            # Nothing is known: everything counts as missing, and what is in is a duplicate.
            return [ChunkRange(0, total - 1)], total
        return ranges, ranges[-1].last + 1
    if status.total_chunks is None:
        tail = status.received_chunks + sum(len(gap) for gap in status.missing)
    else:
        # What the caller took beyond an end that it did not know is not there either.
        tail = status.total_chunks
    if tail < total:
        ranges.append(ChunkRange(tail, total - 1))
    return ranges, total


def missing_of(status: UploadStatus, numbers: Collection[int]) -> set[int]:
    """Those of `numbers` that a status does not name as received."""
    if not numbers:
        return set()
    ranges, horizon = gaps(status, max(numbers) + 1)
    return {
        number
        for number in numbers
        if number >= horizon or any(gap.first <= number <= gap.last for gap in ranges)
    }


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
        """Every chunk from here on is missing and never was taken."""
        self._returned: list[int] = []
        """Heap of chunks below `_next` that became missing again."""
        self._wish: int | None = None
        self._accepted = 0
        self._sending = 0
        self._horizon: int | None = None

    # -- questions

    @property
    def finished(self) -> bool:
        """Every chunk is accepted."""
        return self.total is not None and self._accepted == self.total

    @property
    def accepted_count(self) -> int:
        return self._accepted

    def is_accepted(self, number: int) -> bool:
        return number < len(self._states) and self._states[number] == _ACCEPTED

    def crc_of(self, number: int) -> int | None:
        crc = self._crcs[number] if number < len(self._crcs) else _UNKNOWN_CRC
        return None if crc == _UNKNOWN_CRC else crc

    def without_crc(self) -> Iterator[int]:
        """Accepted chunks whose checksum is not known: an earlier run sent them."""
        for number, state in enumerate(self._states):
            if state == _ACCEPTED and self._crcs[number] == _UNKNOWN_CRC:
                yield number

    def numbers_without_crc(self) -> list[int]:
        """All chunks, accepted or not, whose checksum is not known."""
        return [number for number, crc in enumerate(self._crcs) if crc == _UNKNOWN_CRC]

    def known_crcs(self) -> list[int] | None:
        """The checksums of all chunks in order, or None while one is not known."""
        crcs = self._crcs.tolist()
        return None if self.total is None or _UNKNOWN_CRC in crcs else crcs

    # -- sending

    def take(self, above: int = -1) -> int | None:
        """The next chunk to send: what the server needs first, else the lowest.

        None when there is none, or when it is not above `above`: another stream has to take it.
        """
        number = self._candidate()
        if number is None or number <= above:
            return None
        if number == self._wish:
            self._wish += 1
        return self._begin(number)

    def prefer(self, number: int) -> None:
        """Send this chunk first and go on from there; it counts only if it is missing."""
        self._wish = number

    def returned(self) -> set[int]:
        """Chunks that were on their way and are missing again."""
        return {number for number in self._returned if self._is_missing(number)}

    def note_crc(self, number: int, crc32c: int) -> None:
        self._grow(number)
        self._crcs[number] = crc32c

    def accept(self, number: int) -> bool:
        """The server has the chunk; whether that is news."""
        self._grow(number)
        if self._states[number] == _ACCEPTED:
            return False
        self._sending -= self._states[number] == _SENDING
        self._states[number] = _ACCEPTED
        self._accepted += 1
        return True

    def give_back(self, number: int) -> None:
        """The chunk did not arrive: it is missing again, unless the source ended before it."""
        if number < len(self._states) and self._states[number] == _SENDING:
            self._sending -= 1
            self._make_missing(number)

    def take_back(self, number: int) -> None:
        """An accepted chunk is missing again (rule 8)."""
        if self._states[number] == _ACCEPTED:
            self._accepted -= 1
            self._make_missing(number)

    def end_at(self, total: int) -> None:
        """The source has ended: there are this many chunks, what was taken beyond is no chunk."""
        self.total = total
        for number in range(total, len(self._states)):
            self._sending -= self._states[number] == _SENDING
        del self._states[total:]
        del self._crcs[total:]
        self._next = min(self._next, total)

    # -- what the server says

    def apply(self, missing: Iterable[ChunkRange], horizon: int) -> tuple[list[int], list[int]]:
        """Follow a status while no stream is open.

        Returns the chunks that turned out to be in, and those that are missing although they were
        acknowledged: `take_back` is for the caller to decide.
        """
        assert self.total is not None
        self._recall()
        self._horizon = horizon
        found: list[int] = []
        lost: list[int] = []
        cursor = 0
        for gap in missing:
            found += filter(self.accept, range(cursor, gap.first))
            lost += filter(self.is_accepted, range(gap.first, gap.last + 1))
            cursor = gap.last + 1
        found += filter(self.accept, range(cursor, horizon))
        return found, lost

    def _recall(self) -> None:
        """What streams that were given up had taken is missing until the server says otherwise."""
        if self._sending:
            for number, state in enumerate(self._states):
                if state == _SENDING:
                    self.give_back(number)

    # -- inside

    def _candidate(self) -> int | None:
        if self._wish is not None:
            if self._is_missing(self._wish):
                return self._wish
            self._wish = None
        while self._returned and not self._is_missing(self._returned[0]):
            heapq.heappop(self._returned)
        if self._returned:
            return self._returned[0]
        while self._next < len(self._states) and self._states[self._next] != _MISSING:
            self._next += 1
        return self._next if self._next < self._end() else None

    def _end(self) -> int:
        """Chunks that may be taken are below this."""
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
