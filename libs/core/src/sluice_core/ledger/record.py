"""Mutable record of one upload and its JSON storage form."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from sluice_core.ledger import refusals
from sluice_core.uploads.checksums import EMPTY_CRC32C
from sluice_core.uploads.model import (
    FORMAT_VERSION,
    Integrity,
    NewUpload,
    ObjectRef,
    UploadSnapshot,
    UploadStatus,
)
from sluice_core.uploads.planner import Frontier, UniformPlan, uniform_plan
from sluice_core.uploads.states import is_terminal

COMPLETION_HOLD = 0
"""Key of the completer's hold; parts count from 1."""


FENCES_PER_SECOND = 1_000
"""Unit of an upload's initial fence counter, which is its creation time. A purged and reused upload
id thus never repeats a fence of the first upload: no upload is claimed this often on average."""


@dataclass(slots=True)
class Hold:
    """Lease of a worker on a part, or on the completion, with its fence counter."""

    counter: int
    holder: str
    lease_until: float


@dataclass(slots=True)
class UploadRecord:
    """State of one upload. Times are seconds since the epoch by the ledger's clock, sizes bytes.

    `run_end` is the first number missing from the run of chunks from 0. It advances in bounded
    steps; `behind` is True while a step is left to do. `crc` is the CRC32C of the chunks below
    `crc_end`, which follows `run_end` and is reset when a chunk is replaced.
    """

    new: NewUpload
    created_at: float
    updated_at: float
    last_chunk_at: float
    status: UploadStatus = UploadStatus.PENDING
    sequence: int = 1
    # Chunks
    received_bytes: int = 0
    received_chunks: int = 0
    highest: int = -1
    run_end: int = 0
    crc_end: int = 0
    crc: int = EMPTY_CRC32C
    behind: bool = False
    rejected_count: int = 0
    first_rejected: int = -1
    total_chunks: int | None = None
    # Parts
    frontier: Frontier | None = None
    queued_bytes: int = 0
    """Received and not yet in a stored part: the upload's share of the budget."""
    pending_bytes: int = 0
    """Received and not yet in a ready part: bounded by the look-ahead."""
    stored_bytes: int = 0
    stored_chunks: int = 0
    stored_count: int = 0
    """All stored parts, also beyond the watermark."""
    watermark_part: int = 0
    """Parts 1 … this one are stored."""
    watermark_chunk: int = 0
    """Chunks below this one are in stored parts."""
    multipart_id: str = ""
    # Claims of workers
    fence_counter: int = 0
    holds: dict[int, Hold] = field(default_factory=dict)
    finished_by: int = 0
    # The end
    completing_at: float | None = None
    crc32c: int | None = None
    sha256: bytes | None = None
    failure_reason: str = ""
    failure_detail: str = ""
    ended_at: float | None = None
    cleanups_done: int = 0
    next_cleanup_at: float | None = None
    expiry_seen_at: float | None = None
    event_sequence: int = 0
    events_pending: int = 0
    events_retry_at: float = 0.0
    """Its events are withheld until then, because the publisher refused one."""

    @property
    def upload_id(self) -> str:
        return self.new.upload_id

    @property
    def ended(self) -> bool:
        return is_terminal(self.status)

    @property
    def uniform(self) -> UniformPlan | None:
        """Plan of an upload with a declared chunk size, else None."""
        chunk_size = self.new.chunk_size
        return uniform_plan(self.new.part_bytes, chunk_size) if chunk_size else None

    @property
    def needed_number(self) -> int:
        """The first missing chunk."""
        if self.rejected_count and self.first_rejected < self.run_end:
            return self.first_rejected
        return self.run_end

    @property
    def all_received(self) -> bool:
        return self.received_chunks == self.total_chunks

    @property
    def part_count(self) -> int | None:
        """Number of parts of the object; None while it can grow."""
        total = self.total_chunks
        if total is None:
            return None
        plan = self.uniform
        if plan is not None:
            return plan.part_of_chunk(total - 1) if total else 1
        frontier = self.frontier
        if frontier is None or frontier.parts_cut == 0 or frontier.first_chunk < total:
            return None
        return frontier.parts_cut

    @property
    def all_stored(self) -> bool:
        """True when every chunk is received and every part is in the object store."""
        return self.all_received and self.stored_count == self.part_count

    @property
    def completion_ready(self) -> bool:
        return self.status is UploadStatus.COMPLETING and self.all_stored

    @property
    def single_put(self) -> bool:
        """True when the object is smaller than one part: one PUT, no multipart (rule 12)."""
        if self.part_count != 1 or self.multipart_id:
            return False
        plan = self.uniform
        first_part_bytes = plan.first_part_bytes if plan else self.new.part_bytes
        return self.received_bytes < first_part_bytes

    def part_bytes_now(self) -> int:
        """Return the size of the part that is being filled."""
        plan = self.uniform
        if plan is not None:
            return plan.part_bytes(plan.part_of_chunk(self.needed_number))
        return self.frontier.target_bytes if self.frontier else self.new.part_bytes

    def changed(self, now: float) -> None:
        """Increment the sequence. Call this for every change that a snapshot shows (rule 27)."""
        self.sequence += 1
        self.updated_at = now

    def snapshot(self, idle_seconds: float, total_seconds: float) -> UploadSnapshot:
        """Return a snapshot; the two lifetimes determine the time of expiry."""
        crc = self.crc32c
        if crc is None and self.total_chunks is not None and self.crc_end == self.total_chunks:
            crc = self.crc
        return UploadSnapshot(
            self.new,
            self.status,
            self.sequence,
            self.created_at,
            self.updated_at,
            min(self.last_chunk_at + idle_seconds, self.created_at + total_seconds),
            self.received_bytes,
            self.received_chunks,
            self.stored_bytes,
            self.stored_chunks,
            self.watermark_chunk,
            self.watermark_part,
            self.needed_number,
            self.highest,
            self.total_chunks,
            self.multipart_id,
            crc,
            self.sha256,
            self.failure_reason,
            self.failure_detail,
            self.ended_at,
            self.completing_at,
        )


def fresh_record(new: NewUpload, now: float) -> UploadRecord:
    """Return the record of a new upload.

    Declared chunk and object sizes fix the number of chunks at once, except for an object of no
    bytes, which may have no chunk or one empty chunk.
    """
    record = UploadRecord(new, now, now, now, fence_counter=int(now * FENCES_PER_SECOND))
    if not new.chunk_size:
        record.frontier = Frontier(new.part_bytes)
    elif new.expected_size:
        record.total_chunks = -(-new.expected_size // new.chunk_size)
    return record


# ------------------------------------------------------------------ storage form

_PLAIN = tuple(
    f.name
    for f in fields(UploadRecord)
    if f.name not in {"new", "status", "frontier", "holds", "sha256"}
)


def encode_record(record: UploadRecord) -> dict[str, Any]:
    """Return the record without its `NewUpload`, as JSON values."""
    values: dict[str, Any] = {name: getattr(record, name) for name in _PLAIN}
    frontier = record.frontier
    values["v"] = FORMAT_VERSION
    values["status"] = record.status.value
    values["frontier"] = frontier and [
        frontier.parts_cut,
        frontier.first_chunk,
        frontier.next_chunk,
        frontier.run_bytes,
    ]
    values["holds"] = [
        [number, hold.counter, hold.holder, hold.lease_until]
        for number, hold in record.holds.items()
    ]
    values["sha256"] = record.sha256 and record.sha256.hex()
    return values


def decode_record(new: NewUpload, values: dict[str, Any]) -> UploadRecord:
    """Return the inverse of `encode_record`; raise `Internal` UNKNOWN_FORMAT."""
    _check_format(values)
    # Fields that an earlier release did not write get their defaults.
    plain = {name: values[name] for name in _PLAIN if name in values}
    cut = values["frontier"]
    return UploadRecord(
        new=new,
        status=UploadStatus(values["status"]),
        frontier=Frontier(new.part_bytes, *cut) if cut else None,
        holds={number: Hold(*rest) for number, *rest in values["holds"]},
        sha256=bytes.fromhex(values["sha256"]) if values["sha256"] else None,
        **plain,
    )


_NEW_PLAIN = tuple(
    f.name for f in fields(NewUpload) if f.name not in {"object", "integrity", "sha256", "metadata"}
)


def encode_new(new: NewUpload) -> dict[str, Any]:
    """Return the values fixed at creation, as JSON values."""
    values: dict[str, Any] = {name: getattr(new, name) for name in _NEW_PLAIN}
    values["v"] = FORMAT_VERSION
    values["object"] = [new.object.bucket, new.object.key]
    values["integrity"] = new.integrity.value
    values["sha256"] = new.sha256 and new.sha256.hex()
    values["metadata"] = dict(new.metadata)
    return values


def decode_new(values: dict[str, Any]) -> NewUpload:
    """Return the inverse of `encode_new`; raise `Internal` UNKNOWN_FORMAT."""
    _check_format(values)
    return NewUpload(
        object=ObjectRef(*values["object"]),
        integrity=Integrity(values["integrity"]),
        sha256=bytes.fromhex(values["sha256"]) if values["sha256"] else None,
        metadata=values["metadata"],
        # Fields that an earlier release did not write get their defaults.
        **{name: values[name] for name in _NEW_PLAIN if name in values},
    )


def with_claims(new: NewUpload, sha256: bytes | None, crc32c: int | None) -> NewUpload:
    """Return the upload with the claims of its completion request."""
    return replace(new, sha256=sha256, crc32c=crc32c)


def _check_format(values: dict[str, Any]) -> None:
    version = values.get("v")
    if version != FORMAT_VERSION:
        raise refusals.unknown_format(version)
