"""The storage that the rules need, and the session in which a rule runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from sluice_core.ledger import refusals
from sluice_core.ledger.budget import Budget
from sluice_core.ledger.options import Clock, LedgerOptions
from sluice_core.ledger.record import UploadRecord
from sluice_core.ports import LedgerEvent
from sluice_core.uploads.model import ChunkRef, MissingChunks, UploadSnapshot, UploadStatus


class PartState(StrEnum):
    """FILLING lacks chunks (again), READY awaits a worker, STORED is in the object store."""

    FILLING = "FILLING"
    READY = "READY"
    STORED = "STORED"


@dataclass(slots=True)
class PartRow:
    """One part: its chunks first … last, of which `received` are in with `size` bytes."""

    number: int
    first: int
    last: int
    state: PartState = PartState.FILLING
    received: int = 0
    size: int = 0
    etag: str = ""
    crc32c: int = 0
    sha256: bytes | None = None
    queued: bool = False
    """It was ready once: `force` comes too late for its chunks, rejected ones or not (rule 2)."""

    @property
    def full(self) -> bool:
        return self.received == self.last - self.first + 1


class UploadAge(NamedTuple):
    """Where an upload stands among those of its tenant, and its status."""

    created_at: float
    upload_id: str
    status: UploadStatus


class RejectedChunk(NamedTuple):
    """A chunk that was in and whose bytes are gone: it has to come back with the same content."""

    number: int
    size: int
    crc32c: int


class LedgerStore(Protocol):
    """Rows of uploads, chunks, parts and events. Synchronous; called inside one atomic step.

    A record or row handed out may be the stored object itself: after changing it a rule saves it,
    and a rule raises before it changes anything.
    """

    def touch(self) -> None:
        """A write that changes nothing: raises when the storage takes none."""
        ...

    # -- uploads

    def upload(self, upload_id: str) -> UploadRecord | None: ...

    def insert(self, record: UploadRecord) -> None:
        """Add an upload, with all that `NewUpload` settled."""
        ...

    def save(self, record: UploadRecord) -> None:
        """Store the record; everything but `record.new`."""
        ...

    def save_claims(self, record: UploadRecord) -> None:
        """Store `record.new` again, after a completion brought claims."""
        ...

    def forget(self, upload_id: str) -> None:
        """Remove an upload; rows that nobody can reach any more may stay for a while."""
        ...

    def clear_forgotten(self, limit: int) -> bool:
        """Remove at most `limit` rows that `forget` left; False when there are none."""
        ...

    def newest(
        self, tenant: str, limit: int, after: tuple[float, str] | None
    ) -> Sequence[UploadAge]:
        """By (created_at, upload_id) descending, beyond `after`; the work grows with `limit`, not
        with the uploads that there are."""
        ...

    # -- chunks

    def chunk(self, upload_id: str, number: int) -> ChunkRef | None: ...

    def put_chunk(self, upload_id: str, chunk: ChunkRef) -> None: ...

    def chunks(self, upload_id: str, first: int, last: int, limit: int) -> Sequence[ChunkRef]:
        """Received chunks first … last in order, at most `limit`."""
        ...

    def missing(self, upload_id: str, first: int, last: int, limit: int) -> MissingChunks:
        """The first gaps among first … last; bounded work, `truncated` when it ended early."""
        ...

    def named_tokens(self, upload_id: str, tokens: Sequence[str]) -> set[str]:
        """Those tokens that received chunks name."""
        ...

    def reject(self, upload_id: str, chunk: RejectedChunk) -> None:
        """Move a received chunk to the rejected ones."""
        ...

    def rejected(self, upload_id: str, number: int) -> RejectedChunk | None: ...

    def first_rejected(self, upload_id: str) -> int:
        """The lowest rejected number, −1 without any."""
        ...

    def drop_rejected(self, upload_id: str, number: int) -> None: ...

    # -- parts

    def part(self, upload_id: str, number: int) -> PartRow | None: ...

    def part_with_chunk(self, upload_id: str, number: int) -> PartRow | None:
        """The part whose range holds the chunk."""
        ...

    def put_part(self, upload_id: str, part: PartRow) -> None: ...

    def stored_parts(self, upload_id: str, after: int, limit: int) -> Sequence[PartRow]: ...

    # -- events

    def append_event(self, event: LedgerEvent) -> None: ...

    def events(self, upload_id: str) -> Sequence[LedgerEvent]: ...

    def drop_events(self, upload_id: str, up_to_sequence: int) -> int:
        """How many were dropped."""
        ...

    # -- finding work; ids, oldest upload first

    def with_events(self, limit: int) -> Sequence[str]:
        """Uploads with events that are not withheld."""
        ...

    def with_withheld_events(self, limit: int, until: float) -> Sequence[str]:
        """Uploads whose events were withheld until then at most, longest first."""
        ...

    def with_ready_parts(self, limit: int, after: tuple[float, str] | None) -> Sequence[str]: ...

    def ready_parts(self, upload_id: str) -> Sequence[int]:
        """Numbers of READY parts, in order."""
        ...

    def completing(self, limit: int, after: tuple[float, str] | None) -> Sequence[str]: ...

    def behind(self, limit: int) -> Sequence[str]:
        """Uploads with `behind` set."""
        ...

    def expirable(self, deadline: float, created_before: float, limit: int) -> Sequence[str]:
        """Uploads in a state that takes chunks whose last chunk came before `deadline`, or that
        were created before `created_before`."""
        ...

    def idle_holders(self, last_chunk_before: float, limit: int) -> Sequence[str]:
        """Uploads that take chunks, hold queued bytes and got no chunk since."""
        ...

    def cleanups_due(self, now: float, limit: int, offset: int) -> Sequence[str]: ...

    def purgeable(self, ended_before: float, limit: int) -> Sequence[str]:
        """Ended before that time, cleaned for the last time, no event left."""
        ...

    def count_open(self) -> int: ...


@dataclass(slots=True)
class Session:
    """What a rule works with. `touched` collects the uploads whose watchers are to be woken."""

    store: LedgerStore
    budget: Budget
    options: LedgerOptions
    nonce: str
    clock: Clock
    touched: list[str] = field(default_factory=list)

    def require(self, upload_id: str) -> UploadRecord:
        """The record; raises `NotFound` UPLOAD_NOT_FOUND."""
        record = self.store.upload(upload_id)
        if record is None:
            raise refusals.upload_not_found()
        return record

    def save(self, record: UploadRecord) -> None:
        """Store a changed record and note it for the watchers and the budget."""
        self.store.save(record)
        self.budget.set_queued(record.new.upload_id, record.new.tenant, record.queued_bytes)
        self.touched.append(record.new.upload_id)

    def snapshot(self, record: UploadRecord) -> UploadSnapshot:
        options = self.options
        return record.snapshot(options.idle_lifetime_seconds, options.total_lifetime_seconds)
