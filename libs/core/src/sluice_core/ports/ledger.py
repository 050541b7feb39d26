"""The ledger: which chunks are in, which parts are stored, and how each upload ends."""

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
from sluice_core.ports.work_queue import WorkItem
from sluice_core.uploads.model import (
    ChunkRef,
    MissingChunks,
    NewUpload,
    PartPlan,
    UploadSnapshot,
    UploadStatus,
)


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
        """Check the offer and reserve room for its bytes, before they are read (rules 3–5, 9, 10).

        A chunk begins with a call, may take and give back room by further ones with another
        `hold_bytes` as its bytes arrive, and has to hold its whole size when it is accepted. A
        refusal leaves what it holds already.

        The reservation is keyed by the token and ends with `accept_chunk`, `release_chunk` or its
        time to live (10 minutes after the last call). A chunk that is already in is never refused
        for want of room: it is `known` then. A chunk that can never be accepted raises at once,
        with the errors of `accept_chunk`.
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
            Aborted: STAGING_LOST, the chunk is new and its bytes were not staged, or are gone.
            ResourceExhausted: BUDGET_FULL, the chunk holds no reservation of its whole size, and
                there is no room for it.
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
        """The tenant's uploads, newest first, from the one after the cursor `after`.

        The work of a page is bounded: while few uploads have such a status, it may be short or
        empty and still have a next one.
        """
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

    async def ready_work(self, limit: int, offset: int = 0) -> Sequence[WorkItem]:
        """Parts and completions that are ready and that nobody holds, oldest upload first, those
        before the offset left out."""
        ...

    async def expire_due(self, limit: int) -> Sequence[UploadSnapshot]:
        """Expire uploads past their deadline on the second sighting (rule 24), and idle ones while
        the budget is full (rule 9, PRESSURE); returns those that ended now. COMPLETING never
        expires."""
        ...

    async def cleanups_due(self, limit: int, offset: int = 0) -> Sequence[UploadSnapshot]:
        """Terminal uploads whose leftovers are to be removed now: at once, and after one hour
        (rule 25). Longest due first, those before the offset left out."""
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
        """Unpublished events, in order per upload, oldest upload first; none of uploads whose
        events are withheld, however many those are."""
        ...

    async def withhold_events(self, upload_id: str, seconds: float) -> None:
        """Leave the events of an upload out of `pending_events` for so long: the publisher has
        refused one, and the later ones must not overtake it. `upload_events` has them all."""
        ...

    async def upload_events(self, upload_id: str) -> Sequence[LedgerEvent]:
        """The unpublished events of one upload, in order (the completer carries them over)."""
        ...

    async def events_published(self, upload_id: str, up_to_sequence: int) -> None:
        """Drop the upload's events up to and including this sequence."""
        ...

    async def backlog(self) -> Backlog: ...
