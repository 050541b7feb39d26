"""Ledger port: received chunks, stored parts and the state of each upload."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from sluice_core.ports.answers import (
    Acceptance,
    Admission,
    Backlog,
    ChunkOffer,
    Completion,
    CompletionClaim,
    Fence,
    LedgerEvent,
    PartClaim,
    StoredPartRecord,
    UploadPage,
)
from sluice_core.ports.inspection import InspectionLedger
from sluice_core.ports.work_queue import WorkItem
from sluice_core.uploads.model import (
    ChunkRef,
    MissingChunks,
    NewUpload,
    PartPlan,
    UploadOwner,
    UploadSnapshot,
    UploadStatus,
)


class ChunkLedger(Protocol):
    """Chunk path: room for the bytes of a chunk, and its commit."""

    async def admit_chunk(self, offer: ChunkOffer) -> Admission:
        """Check the offer and reserve room for its bytes, before they are read (rules 3–5, 9, 10).

        Further calls with another `hold_bytes` grow or shrink the reservation while the bytes
        arrive. It has to cover the whole size when the chunk is accepted. A refused call leaves
        the existing reservation unchanged.

        The reservation is keyed by the token and ends with `accept_chunk`, `release_chunk` or its
        time to live (10 minutes after the last call). An accepted chunk is never refused for lack
        of room: it is `known` then. A chunk that can never be accepted raises at once, with the
        errors of `accept_chunk`.
        """
        ...

    async def wait_for_room(self, upload_id: str, timeout_seconds: float) -> None:
        """Return when a retry of a refused `admit_chunk` may succeed, or after the timeout.

        The wake-up may be early or spurious.
        """
        ...

    async def release_chunk(self, offer: ChunkOffer) -> None:
        """Release the reservation of a chunk that will not be accepted."""
        ...

    async def accept_chunk(self, offer: ChunkOffer, crc32c: int) -> Acceptance:
        """Commit a staged chunk; before this it does not count as received (rules 1–4).

        - Raise `AlreadyExists` CHUNK_CONFLICT when this number has other content.
        - Raise `FailedPrecondition` CHUNK_QUEUED (force, but its part is queued), TOTAL_MISMATCH
          (contradicts is_last), UPLOAD_ENDED or UPLOAD_COMPLETING (with a new chunk).
        - Raise `InvalidArgument` CHUNK_SIZE_MISMATCH (uniform plan), EMPTY_CHUNK, BAD_CHUNK_NUMBER.
        - Raise `OutOfRange` for a chunk beyond expected_size.
        - Raise `Aborted` STAGING_LOST when the chunk is new and its bytes were not staged or are
          gone.
        - Raise `ResourceExhausted` BUDGET_FULL when the reservation does not cover the whole size
          and there is no room for the rest.
        """
        ...


class LifecycleLedger(Protocol):
    """Client operations: open, complete, abort, watch and list uploads."""

    @property
    def nonce(self) -> str:
        """Identity of this ledger; it changes when the ledger is emptied or replaced (rule 28)."""
        ...

    async def create(self, new: NewUpload) -> UploadSnapshot:
        """Open an upload in PENDING and append UploadInitiated.

        Raise `AlreadyExists` REQUEST_ID_CONFLICT for a known id with another fingerprint,
        `ResourceExhausted` BUDGET_FULL for a new upload while the budget is full (rule 9).
        """
        ...

    async def request_completion(
        self,
        upload_id: str,
        total_chunks: int | None,
        sha256: bytes | None,
        crc32c: int | None,
    ) -> Completion:
        """Fix the total and move to COMPLETING; repeated calls return the same.

        Raise `FailedPrecondition`: CHUNKS_MISSING (metadata: received_chunks, needed_number),
        TOTAL_UNKNOWN, TOTAL_MISMATCH, CLAIM_MISMATCH, SIZE_MISMATCH (fewer bytes than
        expected_size), UPLOAD_ENDED.
        """
        ...

    async def abort(self, upload_id: str) -> UploadSnapshot:
        """Abort an upload; raise `FailedPrecondition` UPLOAD_COMPLETING, UPLOAD_ENDED (completed).

        Return the snapshot unchanged when it is aborted, failed or expired already.
        """
        ...

    async def owner_of(self, upload_id: str, *, caller: str | None = None) -> UploadOwner:
        """Return tenant, subject and drive of the upload.

        They never change, so a ledger may serve them from a cache, even for an upload that was
        purged since: the following step detects that.

        Args:
            caller: the tenant on whose behalf the upload is looked up. Another tenant's upload is
                then read as an unknown one is, so that the time of the answer does not reveal it.
        """
        ...

    async def get(self, upload_id: str) -> UploadSnapshot: ...

    async def missing_chunks(self, upload_id: str, limit: int) -> MissingChunks:
        """Return the first `limit` gaps, up to the total if known, else to the highest chunk."""
        ...

    def watch(
        self, upload_id: str, after_sequence: int, *, only_end: bool = False
    ) -> AsyncIterator[UploadSnapshot]:
        """Yield snapshots with a sequence beyond `after_sequence`; some may be skipped.

        Ends after the snapshot of a terminal state (rule 27); with `only_end` that is the only one.
        """
        ...

    async def list_uploads(
        self, tenant: str, statuses: frozenset[UploadStatus], limit: int, after: str
    ) -> UploadPage:
        """Return the tenant's uploads, newest first, starting after the cursor `after`.

        The work per page is bounded: when few uploads have such a status, a page may be short or
        empty although another one follows.
        """
        ...


class WorkLedger(Protocol):
    """Worker operations under a claim: store parts, complete or fail an upload."""

    async def claim_part(
        self, upload_id: str, number: int, holder: str, lease_seconds: float
    ) -> PartClaim | None:
        """Claim a ready part; None when it is not ready, stored, held by another, or ended."""
        ...

    async def claim_completion(
        self, upload_id: str, holder: str, lease_seconds: float
    ) -> CompletionClaim | None:
        """Claim the completion of a COMPLETING upload whose parts are all stored; else None."""
        ...

    async def extend_claim(self, claim: PartClaim | CompletionClaim, lease_seconds: float) -> None:
        """Renew the lease (heartbeat); raise `Aborted` FENCED when taken over or ended."""
        ...

    async def release_claim(self, claim: PartClaim | CompletionClaim) -> None:
        """Release an unfinished claim so that another worker can take it; no-op for a lost one."""
        ...

    async def part_chunks(
        self, upload_id: str, plan: PartPlan, after_number: int, limit: int
    ) -> Sequence[ChunkRef]:
        """Return the chunks of a part in order, starting after `after_number` (−1 or
        plan.first_chunk − 1 for the beginning)."""
        ...

    async def set_multipart(self, claim: PartClaim, multipart_id: str) -> str:
        """Record the multipart of an upload; the first one wins and is returned (rule 13)."""
        ...

    async def record_part(self, claim: PartClaim, part: StoredPartRecord) -> Completion:
        """Record a stored part: its bytes leave the budget, its chunks may be dropped.

        Raise `Aborted` FENCED. Repeating the same record returns the same.
        """
        ...

    async def reject_chunk(self, claim: PartClaim, number: int) -> UploadSnapshot:
        """Mark a damaged chunk as missing (rule 8); COMPLETING goes back to UPLOADING."""
        ...

    async def reopen_part(self, claim: CompletionClaim, number: int) -> None:
        """Reopen a recorded part that is missing from the object store (rule 16).

        Its chunks become missing, because their bytes were dropped; the upload goes back to
        UPLOADING.
        """
        ...

    async def stored_parts(
        self, upload_id: str, after_number: int, limit: int
    ) -> Sequence[StoredPartRecord]:
        """Return the stored parts in order."""
        ...

    async def finish(
        self, claim: CompletionClaim, crc32c: int, sha256: bytes | None
    ) -> UploadSnapshot:
        """Move COMPLETING to COMPLETED, after the catalogue's commit; raise `Aborted` FENCED."""
        ...

    async def fail(
        self, upload_id: str, reason: str, detail: str, fence: Fence | None = None
    ) -> UploadSnapshot:
        """End an upload as FAILED and append UploadFailed; with a fence, only if it is current."""
        ...


class SweepLedger(Protocol):
    """Sweeper operations: lost work, expiry, clean-up and purge."""

    async def ready_work(self, limit: int, offset: int = 0) -> Sequence[WorkItem]:
        """Return ready parts and completions without a lease, oldest upload first, starting at the
        offset."""
        ...

    async def expire_due(self, limit: int) -> Sequence[UploadSnapshot]:
        """Expire uploads found past their deadline a second time (rule 24), and idle ones while the
        budget is full (rule 9, PRESSURE); return those expired now.

        COMPLETING never expires.
        """
        ...

    async def cleanups_due(self, limit: int, offset: int = 0) -> Sequence[UploadSnapshot]:
        """Return terminal uploads due for clean-up: at once and again after one hour (rule 25).

        Longest due first, starting at the offset.
        """
        ...

    async def cleanup_done(self, upload_id: str) -> None:
        """Record a finished clean-up of a terminal upload; the next one is due in an hour."""
        ...

    async def purge_due(self, limit: int) -> int:
        """Purge uploads that ended 24 h ago, are cleaned up and have no events; return how many."""
        ...

    async def known_tokens(self, upload_id: str, tokens: Sequence[str]) -> frozenset[str]:
        """Return those of these staging tokens that a received chunk or a reservation names."""
        ...

    async def backlog(self) -> Backlog: ...


class EventLedger(Protocol):
    """Relay operations: unpublished events, in order per upload."""

    async def pending_events(self, limit: int) -> Sequence[LedgerEvent]:
        """Return unpublished events, in order per upload, oldest upload first.

        Uploads with withheld events are left out and never use up the limit.
        """
        ...

    async def withhold_events(self, upload_id: str, seconds: float) -> None:
        """Exclude the events of an upload from `pending_events` for this time.

        The publisher refused one, and later ones must not overtake it. `upload_events` still
        returns all of them.
        """
        ...

    async def upload_events(self, upload_id: str) -> Sequence[LedgerEvent]:
        """Return the unpublished events of one upload in order, for the completer to carry over."""
        ...

    async def events_published(self, upload_id: str, up_to_sequence: int) -> None:
        """Delete the upload's events up to and including this sequence."""
        ...


class UploadLedger(
    ChunkLedger,
    LifecycleLedger,
    WorkLedger,
    SweepLedger,
    EventLedger,
    InspectionLedger,
    Protocol,
):
    """Sole owner of upload state.

    Every method is one atomic step. A repeated call with the same arguments changes nothing and
    returns the same. Methods that name an upload raise `NotFound` UPLOAD_NOT_FOUND for an unknown
    one; the intake reports an id of another nonce as UPLOAD_LOST.
    """

    async def ping(self) -> None:
        """Raise `Unavailable` when the ledger cannot take writes."""
        ...
