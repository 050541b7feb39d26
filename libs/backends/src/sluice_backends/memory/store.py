"""Rows of the memory ledger: dictionaries, and number sets for the search for gaps."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sluice_backends.memory.numbers import NumberSet
from sluice_core.ledger.record import UploadRecord
from sluice_core.ledger.store import PartRow, RejectedChunk, UploadAge
from sluice_core.ports import LedgerEvent
from sluice_core.ports.inspection import PartState, WorkLeft
from sluice_core.uploads.model import (
    ChunkRange,
    ChunkRef,
    MissingChunks,
    UploadStatus,
)
from sluice_core.uploads.states import TAKES_CHUNKS


@dataclass(slots=True)
class _Rows:
    """All rows of one upload."""

    record: UploadRecord
    chunks: dict[int, ChunkRef] = field(default_factory=dict)
    received: NumberSet = field(default_factory=NumberSet)
    rejected: dict[int, RejectedChunk] = field(default_factory=dict)
    parts: dict[int, PartRow] = field(default_factory=dict)
    ready: set[int] = field(default_factory=set)
    events: list[LedgerEvent] = field(default_factory=list)


def _age(record: UploadRecord) -> tuple[float, str]:
    return record.created_at, record.new.upload_id


# Size: one method for each of `LedgerStore`'s.
class MemoryStore:
    """`LedgerStore` that returns the stored objects themselves, without copies."""

    def __init__(self) -> None:
        self._uploads: dict[str, _Rows] = {}
        self._ages: dict[str, list[tuple[float, str]]] = {}
        """The uploads of each tenant, oldest first."""

    def touch(self) -> None:
        """No-op: memory is always writable."""

    # -- uploads

    def upload(self, upload_id: str) -> UploadRecord | None:
        rows = self._uploads.get(upload_id)
        return rows.record if rows is not None else None

    def insert(self, record: UploadRecord) -> None:
        self._uploads[record.new.upload_id] = _Rows(record)
        insort(self._ages.setdefault(record.new.tenant, []), _age(record))

    def save(self, record: UploadRecord) -> None:
        """No-op: the record is the stored object."""

    def save_claims(self, record: UploadRecord) -> None:
        """No-op: the record is the stored object."""

    def purge(self, upload_id: str) -> None:
        record = self._uploads.pop(upload_id).record
        ages = self._ages[record.new.tenant]
        del ages[bisect_left(ages, _age(record))]
        if not ages:
            del self._ages[record.new.tenant]

    def clear_purged(self, limit: int) -> bool:
        return False

    def newest(
        self, tenant: str, limit: int, after: tuple[float, str] | None
    ) -> Sequence[UploadAge]:
        ages = self._ages.get(tenant, [])
        end = len(ages) if after is None else bisect_left(ages, after)
        return [
            UploadAge(created_at, upload_id, self._uploads[upload_id].record.status)
            for created_at, upload_id in reversed(ages[max(0, end - limit) : end])
        ]

    # -- chunks

    def chunk(self, upload_id: str, number: int) -> ChunkRef | None:
        return self._uploads[upload_id].chunks.get(number)

    def put_chunk(self, upload_id: str, chunk: ChunkRef) -> None:
        rows = self._uploads[upload_id]
        rows.chunks[chunk.number] = chunk
        rows.received.add(chunk.number)

    def chunks(self, upload_id: str, first: int, last: int, limit: int) -> Sequence[ChunkRef]:
        rows = self._uploads[upload_id]
        found: list[ChunkRef] = []
        number = rows.received.next_in(first, last)
        while number is not None and len(found) < limit:
            found.append(rows.chunks[number])
            number = rows.received.next_in(number + 1, last)
        return found

    def missing(self, upload_id: str, first: int, last: int, limit: int) -> MissingChunks:
        received = self._uploads[upload_id].received
        ranges: list[ChunkRange] = []
        gap = received.next_out(first, last)
        while gap is not None:
            if len(ranges) == limit:
                return MissingChunks(tuple(ranges), truncated=True)
            end = received.next_in(gap, last)
            ranges.append(ChunkRange(gap, last if end is None else end - 1))
            gap = None if end is None else received.next_out(end, last)
        return MissingChunks(tuple(ranges), truncated=False)

    def named_tokens(self, upload_id: str, tokens: Sequence[str]) -> set[str]:
        chunks = self._uploads[upload_id].chunks.values()
        return set(tokens).intersection(chunk.token for chunk in chunks)

    def reject(self, upload_id: str, chunk: RejectedChunk) -> None:
        rows = self._uploads[upload_id]
        del rows.chunks[chunk.number]
        rows.received.discard(chunk.number)
        rows.rejected[chunk.number] = chunk

    def rejected(self, upload_id: str, number: int) -> RejectedChunk | None:
        return self._uploads[upload_id].rejected.get(number)

    def first_rejected(self, upload_id: str) -> int:
        return min(self._uploads[upload_id].rejected, default=-1)

    def drop_rejected(self, upload_id: str, number: int) -> None:
        self._uploads[upload_id].rejected.pop(number, None)

    # -- parts

    def part(self, upload_id: str, number: int) -> PartRow | None:
        return self._uploads[upload_id].parts.get(number)

    def part_with_chunk(self, upload_id: str, number: int) -> PartRow | None:
        """Return the part by binary search: frontier parts are numbered without gaps."""
        parts = self._uploads[upload_id].parts
        low, high = 1, len(parts)
        while low <= high:
            middle = (low + high) // 2
            part = parts[middle]
            if number < part.first:
                high = middle - 1
            elif number > part.last:
                low = middle + 1
            else:
                return part
        return None

    def put_part(self, upload_id: str, part: PartRow) -> None:
        rows = self._uploads[upload_id]
        rows.parts[part.number] = part
        if part.state is PartState.READY:
            rows.ready.add(part.number)
        else:
            rows.ready.discard(part.number)

    def stored_parts(self, upload_id: str, after: int, limit: int) -> Sequence[PartRow]:
        parts = self._uploads[upload_id].parts
        return heapq.nsmallest(
            limit,
            (p for p in parts.values() if p.number > after and p.state is PartState.STORED),
            key=lambda part: part.number,
        )

    def parts(self, upload_id: str, after: int, limit: int) -> Sequence[PartRow]:
        parts = self._uploads[upload_id].parts
        return heapq.nsmallest(
            limit,
            (part for part in parts.values() if part.number > after),
            key=lambda part: part.number,
        )

    # -- events

    def append_event(self, event: LedgerEvent) -> None:
        self._uploads[event.upload_id].events.append(event)

    def events(self, upload_id: str) -> Sequence[LedgerEvent]:
        return tuple(self._uploads[upload_id].events)

    def drop_events(self, upload_id: str, up_to_sequence: int) -> int:
        rows = self._uploads[upload_id]
        kept = [event for event in rows.events if event.sequence > up_to_sequence]
        dropped = len(rows.events) - len(kept)
        rows.events = kept
        return dropped

    # -- work discovery

    def with_events(self, limit: int) -> Sequence[str]:
        found = (r for r in self._uploads.values() if r.events and not r.record.events_retry_at)
        return self._oldest(found, limit, None)

    def with_withheld_events(self, limit: int, until: float) -> Sequence[str]:
        due = (
            (rows.record.events_retry_at, rows.record.upload_id)
            for rows in self._uploads.values()
            if rows.events and 0 < rows.record.events_retry_at <= until
        )
        return [upload_id for _, upload_id in heapq.nsmallest(limit, due)]

    def with_ready_parts(self, limit: int, after: tuple[float, str] | None) -> Sequence[str]:
        found = (r for r in self._uploads.values() if r.ready and not r.record.ended)
        return self._oldest(found, limit, after)

    def ready_parts(self, upload_id: str) -> Sequence[int]:
        return sorted(self._uploads[upload_id].ready)

    def completing(self, limit: int, after: tuple[float, str] | None) -> Sequence[str]:
        found = (
            rows for rows in self._uploads.values() if rows.record.status is UploadStatus.COMPLETING
        )
        return self._oldest(found, limit, after)

    def behind(self, limit: int) -> Sequence[str]:
        return self._oldest((r for r in self._uploads.values() if r.record.behind), limit, None)

    def expirable(self, deadline: float, created_before: float, limit: int) -> Sequence[str]:
        found = (
            rows
            for rows in self._uploads.values()
            if rows.record.status in TAKES_CHUNKS
            and (rows.record.last_chunk_at <= deadline or rows.record.created_at <= created_before)
        )
        return self._oldest(found, limit, None)

    def idle_holders(self, last_chunk_before: float, limit: int) -> Sequence[str]:
        found = (
            rows
            for rows in self._uploads.values()
            if rows.record.status in TAKES_CHUNKS
            and rows.record.queued_bytes
            and rows.record.last_chunk_at <= last_chunk_before
        )
        return self._oldest(found, limit, None)

    def cleanups_due(self, now: float, limit: int, offset: int) -> Sequence[str]:
        found = (
            rows
            for rows in self._uploads.values()
            if rows.record.next_cleanup_at is not None and rows.record.next_cleanup_at <= now
        )
        return self._oldest(found, offset + limit, None)[offset:]

    def purgeable(self, ended_before: float, limit: int) -> Sequence[str]:
        found = (
            rows
            for rows in self._uploads.values()
            if rows.record.ended_at is not None
            and rows.record.ended_at <= ended_before
            and rows.record.next_cleanup_at is None
            and not rows.events
        )
        return self._oldest(found, limit, None)

    def count_open(self) -> int:
        return sum(not rows.record.ended for rows in self._uploads.values())

    def work_left(self) -> WorkLeft:
        uploads = self._uploads.values()
        return WorkLeft(
            completing=sum(rows.record.status is UploadStatus.COMPLETING for rows in uploads),
            with_ready_parts=sum(bool(r.ready) and not r.record.ended for r in uploads),
            with_events=sum(rows.record.events_pending > 0 for rows in uploads),
        )

    def _oldest(
        self, uploads: Iterable[_Rows], limit: int, after: tuple[float, str] | None
    ) -> list[str]:
        ages = (_age(rows.record) for rows in uploads)
        younger = ages if after is None else (age for age in ages if age > after)
        return [upload_id for _, upload_id in heapq.nsmallest(limit, younger)]
