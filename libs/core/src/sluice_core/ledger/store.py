"""Storage interface of the ledger's rules, and the session in which a rule runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from sluice_core.ledger import refusals
from sluice_core.ledger.budget import Budget
from sluice_core.ledger.options import Clock, LedgerOptions
from sluice_core.ledger.record import UploadRecord
from sluice_core.ports import LedgerEvent
from sluice_core.ports.inspection import PartState, WorkLeft
from sluice_core.uploads.model import ChunkRef, MissingChunks, UploadSnapshot, UploadStatus


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
    """It was ready once, so `force` is too late for its chunks, also for rejected ones (rule 2)."""

    @property
    def full(self) -> bool:
        return self.received == self.last - self.first + 1


class UploadAge(NamedTuple):
    """Position of an upload among those of its tenant, and its status."""

    created_at: float
    upload_id: str
    status: UploadStatus


class RejectedChunk(NamedTuple):
    """Received chunk whose bytes are gone; it has to be sent again with the same content."""

    number: int
    size: int
    crc32c: int


# Size: what the rules need of storage, a line each.
class LedgerStore(Protocol):
    """Rows of uploads, chunks, parts and events. Synchronous; called inside one atomic step.

    A returned record or row may be the stored object itself. A rule therefore saves it after a
    change, and raises only before its first change.
    """

    def touch(self) -> None:
        """Write without a change; raise when the storage is not writable."""
        ...

    # -- uploads

    def upload(self, upload_id: str) -> UploadRecord | None: ...

    def insert(self, record: UploadRecord) -> None:
        """Insert an upload with its `NewUpload`."""
        ...

    def save(self, record: UploadRecord) -> None:
        """Store the record except `record.new`."""
        ...

    def save_claims(self, record: UploadRecord) -> None:
        """Store `record.new` again, after a completion added claims."""
        ...

    def purge(self, upload_id: str) -> None:
        """Remove an upload; unreachable rows may stay until `clear_purged`."""
        ...

    def clear_purged(self, limit: int) -> bool:
        """Remove at most `limit` rows that `purge` left; False when there were none."""
        ...

    def newest(
        self, tenant: str, limit: int, after: tuple[float, str] | None
    ) -> Sequence[UploadAge]:
        """Return uploads by (created_at, upload_id) descending, beyond `after`.

        The work grows with `limit`, not with the number of uploads.
        """
        ...

    # -- chunks

    def chunk(self, upload_id: str, number: int) -> ChunkRef | None: ...

    def put_chunk(self, upload_id: str, chunk: ChunkRef) -> None: ...

    def chunks(self, upload_id: str, first: int, last: int, limit: int) -> Sequence[ChunkRef]:
        """Return the received chunks first … last in order, at most `limit`."""
        ...

    def missing(self, upload_id: str, first: int, last: int, limit: int) -> MissingChunks:
        """Return the first gaps among first … last; bounded work, `truncated` if it ended early."""
        ...

    def named_tokens(self, upload_id: str, tokens: Sequence[str]) -> set[str]:
        """Return those of the tokens that received chunks name."""
        ...

    def reject(self, upload_id: str, chunk: RejectedChunk) -> None:
        """Move a received chunk to the rejected ones."""
        ...

    def rejected(self, upload_id: str, number: int) -> RejectedChunk | None: ...

    def first_rejected(self, upload_id: str) -> int:
        """Return the lowest rejected number, −1 without any."""
        ...

    def drop_rejected(self, upload_id: str, number: int) -> None: ...

    # -- parts

    def part(self, upload_id: str, number: int) -> PartRow | None: ...

    def part_with_chunk(self, upload_id: str, number: int) -> PartRow | None:
        """Return the part whose range contains the chunk."""
        ...

    def put_part(self, upload_id: str, part: PartRow) -> None: ...

    def stored_parts(self, upload_id: str, after: int, limit: int) -> Sequence[PartRow]: ...

    def parts(self, upload_id: str, after: int, limit: int) -> Sequence[PartRow]:
        """Return parts in any state, in order."""
        ...

    # -- events

    def append_event(self, event: LedgerEvent) -> None: ...

    def events(self, upload_id: str) -> Sequence[LedgerEvent]: ...

    def drop_events(self, upload_id: str, up_to_sequence: int) -> int:
        """Delete events up to this sequence; return how many."""
        ...

    # -- work discovery: upload ids, oldest upload first

    def with_events(self, limit: int) -> Sequence[str]:
        """Return uploads with events that are not withheld."""
        ...

    def with_withheld_events(self, limit: int, until: float) -> Sequence[str]:
        """Return uploads whose events were withheld until then at most, longest first."""
        ...

    def with_ready_parts(self, limit: int, after: tuple[float, str] | None) -> Sequence[str]: ...

    def ready_parts(self, upload_id: str) -> Sequence[int]:
        """Return the numbers of READY parts, in order."""
        ...

    def completing(self, limit: int, after: tuple[float, str] | None) -> Sequence[str]: ...

    def behind(self, limit: int) -> Sequence[str]:
        """Return uploads with `behind` set."""
        ...

    def expirable(self, deadline: float, created_before: float, limit: int) -> Sequence[str]:
        """Return uploads that accept chunks, with the last chunk before `deadline` or created
        before `created_before`."""
        ...

    def idle_holders(self, last_chunk_before: float, limit: int) -> Sequence[str]:
        """Return uploads that accept chunks, hold queued bytes and received no chunk since."""
        ...

    def cleanups_due(self, now: float, limit: int, offset: int) -> Sequence[str]: ...

    def purgeable(self, ended_before: float, limit: int) -> Sequence[str]:
        """Return uploads that ended before that time, with no clean-up or event left."""
        ...

    def count_open(self) -> int: ...

    def work_left(self) -> WorkLeft: ...


@dataclass(slots=True)
class Session:
    """Context of a rule. `touched` collects the uploads whose watchers are to be notified."""

    store: LedgerStore
    budget: Budget
    options: LedgerOptions
    nonce: str
    clock: Clock
    touched: list[str] = field(default_factory=list)

    def require(self, upload_id: str) -> UploadRecord:
        """Return the record; raise `NotFound` UPLOAD_NOT_FOUND."""
        record = self.store.upload(upload_id)
        if record is None:
            raise refusals.upload_not_found()
        return record

    def save(self, record: UploadRecord) -> None:
        """Store a changed record; update the budget and notify watchers after the step."""
        self.store.save(record)
        self.budget.set_queued(record.new.upload_id, record.new.tenant, record.queued_bytes)
        self.touched.append(record.new.upload_id)

    def snapshot(self, record: UploadRecord) -> UploadSnapshot:
        options = self.options
        return record.snapshot(options.idle_lifetime_seconds, options.total_lifetime_seconds)
