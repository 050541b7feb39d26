"""The coordination ports: who holds which bytes, and what is to be done next.

Rules bound to these ports are numbered as in docs/protocol.md. Every adapter passes
tests/contract/. All methods are coroutine-safe: any number of callers at once.

Any method may raise `Unavailable` when its backend does not answer; nothing has then changed, or
the same call again finds what it did (every method is idempotent).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sluice_common.uploads.model import (
    ChunkRef,
    MissingChunks,
    NewUpload,
    PartPlan,
    UploadSnapshot,
    UploadStatus,
)

Block = bytes | memoryview
"""At most MAX_BLOCK_BYTES. A memoryview stays valid only until the call it is given to returns."""


# ------------------------------------------------------------------ ledger


@dataclass(frozen=True, slots=True)
class ChunkOffer:
    """A chunk that asks to come in; `token` is the private staging token of its bytes."""

    upload_id: str
    number: int
    size: int
    token: str
    is_last: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer to `admit_chunk`: with `granted`, the bytes may be read; else wait or refuse.

    `reason` is BUDGET_FULL or LOOKAHEAD_EXCEEDED; `needed_number` is the chunk that would let the
    upload move on.
    """

    granted: bool
    reason: str = ""
    needed_number: int = 0


class Verdict(StrEnum):
    """What `accept_chunk` did. CONFLICT and the like are raised, not returned."""

    NEW = "NEW"
    DUPLICATE = "DUPLICATE"
    REPLACED = "REPLACED"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What became of an accepted chunk.

    `ready_parts` are parts that this chunk made ready: the caller queues them (a hint: the
    sweeper re-issues them). `drop_tokens` are staged bytes that nothing names any more (the
    duplicate's own, or the replaced chunk's): the caller discards them.
    """

    verdict: Verdict
    chunk: ChunkRef
    snapshot: UploadSnapshot
    ready_parts: tuple[int, ...] = ()
    drop_tokens: tuple[str, ...] = ()
    completion_ready: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to `request_completion`."""

    snapshot: UploadSnapshot
    ready_parts: tuple[int, ...] = ()
    completion_ready: bool = False


@dataclass(frozen=True, slots=True)
class Fence:
    """Fencing token (rule 15): a write that carries an older one than the ledger's is refused."""

    nonce: str
    counter: int


@dataclass(frozen=True, slots=True)
class PartClaim:
    """The right to store one part, until the lease ends or is taken over.

    `single_put`: the part is the whole object, to be stored by one PUT without a multipart.
    `claimed_at`: in seconds since the epoch, by the ledger's clock, which the snapshot's times are
    of too.
    """

    snapshot: UploadSnapshot
    plan: PartPlan
    size: int
    fence: Fence
    single_put: bool
    claimed_at: float


@dataclass(frozen=True, slots=True)
class StoredPartRecord:
    """A part that the object store holds. `sha256` only for a single PUT (seen in passing)."""

    number: int
    etag: str
    size: int
    crc32c: int
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class CompletionClaim:
    """The right to complete one upload (rule 18)."""

    snapshot: UploadSnapshot
    fence: Fence
    part_count: int
    single_put: bool


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """A transition that awaits the relay (rule 22). `type` is the protobuf message name."""

    event_id: str
    upload_id: str
    node_id: str
    tenant: str
    type: str
    sequence: int
    occurred_at: float
    payload: bytes
    trace_parent: str = ""


@dataclass(frozen=True, slots=True)
class UploadPage:
    """One page of uploads, newest first; `next_after` is empty on the last page."""

    uploads: tuple[UploadSnapshot, ...]
    next_after: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """How full the chunk store is, for gauges and for pressure decisions."""

    queued_bytes: int
    reserved_bytes: int
    budget_bytes: int
    open_uploads: int


class UploadLedger(Protocol):
    """The one owner of upload state.

    Every method is one atomic step; a repeated call with the same arguments changes nothing and
    answers the same. Methods that name an upload raise `NotFound` UPLOAD_NOT_FOUND when the ledger
    does not know it (UPLOAD_LOST is the intake's word for an id of another nonce).
    """

    @property
    def nonce(self) -> str:
        """Identity of this ledger; a new one means that it was emptied or replaced (rule 28)."""
        ...

    async def ping(self) -> None:
        """Raise `Unavailable` when the ledger cannot take writes."""
        ...

    # -- the client's side

    async def create(self, new: NewUpload) -> UploadSnapshot:
        """Open an upload, PENDING, and append UploadInitiated.

        Raises `AlreadyExists` REQUEST_ID_CONFLICT for a known id with another fingerprint,
        `ResourceExhausted` BUDGET_FULL for a new upload while the budget is full (rule 9).
        """
        ...

    async def admit_chunk(self, offer: ChunkOffer) -> Admission:
        """Check the offer and reserve its bytes, before they are read (rules 3–5, 9, 10).

        The reservation is keyed by the token and ends with `accept_chunk`, `release_chunk` or its
        time to live (10 minutes). A chunk that is already in is granted without a reservation.
        A chunk that can never be accepted raises at once, with the errors of `accept_chunk`.
        """
        ...

    async def wait_for_room(self, upload_id: str, timeout_seconds: float) -> None:
        """Return when an `admit_chunk` that was refused is worth repeating, or after the timeout.

        A wake-up only: it may be early or spurious.
        """
        ...

    async def release_chunk(self, offer: ChunkOffer) -> None:
        """Give back the reservation of a chunk that will not be accepted."""
        ...

    async def accept_chunk(self, offer: ChunkOffer, crc32c: int) -> Acceptance:
        """Commit a staged chunk: the only point from which it counts (rules 1–4).

        Raises:
            AlreadyExists: CHUNK_CONFLICT, other content under this number.
            FailedPrecondition: CHUNK_QUEUED (force, but its part is queued), TOTAL_MISMATCH
                (contradicts is_last), UPLOAD_ENDED / UPLOAD_COMPLETING (with a new chunk).
            InvalidArgument: CHUNK_SIZE_MISMATCH (uniform plan), EMPTY_CHUNK, BAD_CHUNK_NUMBER.
            OutOfRange: beyond expected_size.
        """
        ...

    async def request_completion(
        self,
        upload_id: str,
        total_chunks: int | None,
        sha256: bytes | None,
        crc32c: int | None,
    ) -> Completion:
        """Fix the total and move to COMPLETING; repeated calls answer the same.

        Raises `FailedPrecondition`: CHUNKS_MISSING (metadata: received_chunks, needed_number),
        TOTAL_UNKNOWN, TOTAL_MISMATCH, CLAIM_MISMATCH, SIZE_MISMATCH (fewer bytes than
        expected_size), UPLOAD_ENDED.
        """
        ...

    async def abort(self, upload_id: str) -> UploadSnapshot:
        """End an upload; raises `FailedPrecondition` UPLOAD_COMPLETING or UPLOAD_ENDED (completed).

        Aborting what is aborted, failed or expired already answers with the snapshot.
        """
        ...

    async def tenant_of(self, upload_id: str) -> str:
        """Whose upload it is. That never changes, so a ledger may answer from memory, also for an
        upload that it has forgotten since: the step that follows finds that out."""
        ...

    async def get(self, upload_id: str) -> UploadSnapshot: ...

    async def missing_chunks(self, upload_id: str, limit: int) -> MissingChunks:
        """The first `limit` gaps, up to the total when it is known, else to the highest chunk."""
        ...

    def watch(
        self, upload_id: str, after_sequence: int, *, only_end: bool = False
    ) -> AsyncIterator[UploadSnapshot]:
        """Snapshots with a sequence beyond `after_sequence`; steps in between may be merged.

        Ends after the snapshot of a terminal state (rule 27), the one snapshot that there is with
        `only_end`.
        """
        ...

    async def list_uploads(
        self, tenant: str, statuses: frozenset[UploadStatus], limit: int, after: str
    ) -> UploadPage:
        """The tenant's uploads, newest first, from the one after the cursor `after`."""
        ...

    # -- the workers' side

    async def claim_part(
        self, upload_id: str, number: int, holder: str, lease_seconds: float
    ) -> PartClaim | None:
        """Take a ready part; None when it is not ready, stored, held by another, or ended."""
        ...

    async def claim_completion(
        self, upload_id: str, holder: str, lease_seconds: float
    ) -> CompletionClaim | None:
        """Take a COMPLETING upload whose parts are all stored; None otherwise."""
        ...

    async def extend_claim(self, claim: PartClaim | CompletionClaim, lease_seconds: float) -> None:
        """Heartbeat; raises `Aborted` FENCED when the claim was taken over or the upload ended."""
        ...

    async def release_claim(self, claim: PartClaim | CompletionClaim) -> None:
        """Give a claim back undone so that it can be taken at once; a lost claim is no error."""
        ...

    async def part_chunks(
        self, upload_id: str, plan: PartPlan, after_number: int, limit: int
    ) -> Sequence[ChunkRef]:
        """The chunks of a part in order, those after `after_number` (−1 or plan.first_chunk − 1
        for the beginning)."""
        ...

    async def set_multipart(self, claim: PartClaim, multipart_id: str) -> str:
        """Record the multipart of an upload; the first one wins and is returned (rule 13)."""
        ...

    async def record_part(self, claim: PartClaim, part: StoredPartRecord) -> Completion:
        """Note that a part is stored: its bytes leave the budget, its chunks may be dropped.

        Raises `Aborted` FENCED. The same record again answers the same.
        """
        ...

    async def reject_chunk(self, claim: PartClaim, number: int) -> UploadSnapshot:
        """Return a damaged chunk to "missing" (rule 8); COMPLETING goes back to UPLOADING."""
        ...

    async def reopen_part(self, claim: CompletionClaim, number: int) -> None:
        """Make a stored part that the object store does not hold (rule 16) work again.

        Its chunks return to "missing", because their bytes were dropped; the upload returns to
        UPLOADING.
        """
        ...

    async def stored_parts(
        self, upload_id: str, after_number: int, limit: int
    ) -> Sequence[StoredPartRecord]:
        """The stored parts in order."""
        ...

    async def finish(
        self, claim: CompletionClaim, crc32c: int, sha256: bytes | None
    ) -> UploadSnapshot:
        """COMPLETING → COMPLETED, after the catalogue's commit. Raises `Aborted` FENCED."""
        ...

    async def fail(
        self, upload_id: str, reason: str, detail: str, fence: Fence | None = None
    ) -> UploadSnapshot:
        """End an upload as FAILED and append UploadFailed. With a fence: only if it still holds."""
        ...

    # -- the sweeper's and the relay's side

    async def ready_work(self, limit: int) -> Sequence[WorkItem]:
        """Parts and completions that are ready and that nobody holds, oldest upload first."""
        ...

    async def expire_due(self, limit: int) -> Sequence[UploadSnapshot]:
        """Expire uploads past their deadline on the second sighting (rule 24), and idle ones while
        the budget is full (rule 9, PRESSURE); returns those that ended now. COMPLETING never
        expires."""
        ...

    async def cleanups_due(self, limit: int) -> Sequence[UploadSnapshot]:
        """Terminal uploads whose leftovers are to be removed now: at once, and after one hour
        (rule 25)."""
        ...

    async def cleanup_done(self, upload_id: str) -> None:
        """Note one finished clean-up of a terminal upload; the next one becomes due in an hour."""
        ...

    async def purge_due(self, limit: int) -> int:
        """Forget uploads that ended 24 h ago, were cleaned and have no event left; how many."""
        ...

    async def known_tokens(self, upload_id: str, tokens: Sequence[str]) -> frozenset[str]:
        """Which of these staging tokens a received chunk or a reservation names."""
        ...

    async def pending_events(self, limit: int) -> Sequence[LedgerEvent]:
        """Unpublished events, in order per upload, oldest upload first."""
        ...

    async def upload_events(self, upload_id: str) -> Sequence[LedgerEvent]:
        """The unpublished events of one upload, in order (the completer carries them over)."""
        ...

    async def events_published(self, upload_id: str, up_to_sequence: int) -> None:
        """Drop the upload's events up to and including this sequence."""
        ...

    async def backlog(self) -> Backlog: ...


# ------------------------------------------------------------------ chunk store


class StagedChunk(Protocol):
    """Bytes of one chunk on their way in, private to one sender until the ledger accepts them."""

    @property
    def token(self) -> str: ...

    async def append(self, block: Block) -> None:
        """Add a block. Never repeated blindly: a repeat would double it (rule 1)."""
        ...

    async def seal(self) -> None:
        """Make the bytes as safe as the durability class asks, before the ledger accepts them."""
        ...


class ChunkStore(Protocol):
    """Keeps the blocks of chunks from their arrival until their part is stored."""

    def stage(self, offer: ChunkOffer) -> AbstractAsyncContextManager[StagedChunk]:
        """Open a staging area for the bytes of an offered chunk, under its token.

        Leaving it without `seal` discards the bytes; after `seal` they stay until `drop` (the
        ledger may have accepted them even if its answer was lost).
        """
        ...

    def read(self, upload_id: str, chunk: ChunkRef) -> AsyncIterator[bytes]:
        """The chunk's blocks. Raises `DataLoss` CHUNK_MISSING or CHUNK_DAMAGED when the bytes are
        gone, have another length or another CRC32C; detected at the latest at the end."""
        ...

    def read_many(self, upload_id: str, chunks: Sequence[ChunkRef]) -> AsyncIterator[bytes]:
        """The blocks of these chunks, one chunk after the other, with fewer round trips than
        `read` of each; a block may hold several small chunks. Raises as `read` does."""
        ...

    async def drop(self, upload_id: str, tokens: Sequence[str]) -> None:
        """Forget chunks; unknown tokens are no error."""
        ...

    async def drop_upload(self, upload_id: str) -> None:
        """Forget everything of an upload, staging included."""
        ...

    async def leftovers(
        self, older_than_seconds: float, limit: int
    ) -> Sequence[tuple[str, Sequence[str]]]:
        """(upload id, tokens) of bytes older than this; the sweeper asks the ledger which of them
        are still named and drops the rest. May be empty where the store expires by itself."""
        ...


# ------------------------------------------------------------------ work queue


class WorkKind(StrEnum):
    PART = "PART"
    COMPLETION = "COMPLETION"


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A hint that something is ready; the ledger is the truth (rule 15)."""

    kind: WorkKind
    upload_id: str
    tenant: str
    part_number: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One item in a worker's hands until it is acknowledged or its lease ends."""

    item: WorkItem
    delivery_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class QueueDepth:
    items: int
    oldest_age_seconds: float


class WorkQueue(Protocol):
    """At least once, shared fairly between tenants. Items are hints: losing one costs time only."""

    async def put(self, item: WorkItem) -> None:
        """Add an item; one that is already waiting is not added twice. Waits while full."""
        ...

    async def take(
        self, kinds: frozenset[WorkKind], consumer: str, wait_seconds: float
    ) -> Delivery | None:
        """The next item of these kinds, or one whose holder lost its lease; None after the wait."""
        ...

    async def extend(self, delivery: Delivery) -> None:
        """Heartbeat: the lease starts anew. A lost delivery is no error."""
        ...

    async def acknowledge(self, delivery: Delivery) -> None:
        """Done, or no longer true."""
        ...

    async def retry(self, delivery: Delivery, delay_seconds: float) -> None:
        """Give it back, to be delivered again after the delay."""
        ...

    async def depth(self) -> QueueDepth: ...
