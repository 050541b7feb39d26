"""Reads for operators: uploads with their parts and leases, and the work that is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sluice_backends.redis.ledger.finder import UploadFinder
from sluice_backends.redis.ledger.replies import SnapshotReader
from sluice_backends.redis.ledger.steps import LedgerSteps
from sluice_core.ports.inspection import (
    InspectedPart,
    InspectedUpload,
    Lease,
    PartState,
    WorkLeft,
)
from sluice_core.uploads.model import MAX_PARTS

_STATES: Final = {b"F": PartState.FILLING, b"R": PartState.READY, b"S": PartState.STORED}
_FIELDS: Final = 8


class LedgerInspection:
    """The ledger's `InspectionLedger`."""

    def __init__(self, steps: LedgerSteps, reader: SnapshotReader) -> None:
        self._steps = steps
        self._reader = reader
        self._finder = UploadFinder(steps)

    async def inspect(self, upload_id: str) -> InspectedUpload:
        (
            fields,
            now,
            queued_bytes,
            rejected,
            hold,
            events_pending,
            events_retry_at,
            cleanups_done,
            next_cleanup_at,
        ) = await self._steps.run("inspect", upload_id)
        return InspectedUpload(
            snapshot=await self._reader.snapshot(upload_id, fields),
            now=float(now),
            queued_bytes=queued_bytes,
            rejected_chunks=rejected,
            completion_lease=_lease(hold),
            events_pending=events_pending,
            events_withheld_until=float(events_retry_at) if events_pending else 0.0,
            cleanups_done=cleanups_done,
            next_cleanup_at=float(next_cleanup_at) if next_cleanup_at else None,
        )

    async def inspect_parts(
        self, upload_id: str, after_number: int, limit: int
    ) -> Sequence[InspectedPart]:
        (fields,) = await self._steps.run(
            "inspect_parts", upload_id, after_number, limit, MAX_PARTS
        )
        return [_part(*fields[at : at + _FIELDS]) for at in range(0, len(fields), _FIELDS)]

    async def work_left(self) -> WorkLeft:
        # In a cluster the sets are updated after the upload: they may miss one that changes now,
        # and when a process was killed in between, they are stale until the next pass of a sweeper.
        return WorkLeft(
            completing=await self._finder.count("completions"),
            with_ready_parts=await self._finder.count("parts"),
            with_events=await self._finder.count("events") + await self._finder.count("retries"),
        )


def _part(
    number: int,
    state: bytes,
    first: int,
    last: int,
    received: int,
    size: int,
    member: bytes,
    hold: bytes,
) -> InspectedPart:
    # An ETag may contain colons.
    _, _, rest = member.decode().partition(":")
    etag, *stored = rest.rsplit(":", 2)
    return InspectedPart(
        number=number,
        first_chunk=first,
        last_chunk=last,
        state=_STATES[state],
        received_chunks=received,
        size=size,
        etag=etag,
        crc32c=int(stored[1]) if stored else None,
        lease=_lease(hold),
    )


def _lease(hold: bytes) -> Lease | None:
    if not hold:
        return None
    counter, until, holder = hold.decode().split(" ", 2)
    return Lease(holder, int(counter), float(until))
