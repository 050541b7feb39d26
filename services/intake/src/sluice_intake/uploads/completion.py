"""CompleteUpload and AbortUpload: the end of an upload by its client (rules 3, 18, 21)."""

from __future__ import annotations

import asyncio

from sluice_core.access.actions import Action
from sluice_core.access.principal import Principal
from sluice_core.errors import FailedPrecondition, InvalidArgument
from sluice_core.ports import Completion, LifecycleLedger
from sluice_core.uploads.model import MAX_CHUNKS, UploadSnapshot
from sluice_core.uploads.names import check_sha256
from sluice_core.uploads.states import is_terminal
from sluice_intake.chunks.acceptance import ChunkAcceptor
from sluice_intake.lookup import UploadGuard, reporting_lost_uploads
from sluice_intake.options import IntakeOptions
from sluice_intake.snapshots import snapshots_after
from sluice_intake.uploads.outcomes import check_not_ended


class UploadCompleter:
    """The stage that completes and aborts uploads for their clients."""

    def __init__(
        self,
        ledger: LifecycleLedger,
        guard: UploadGuard,
        acceptor: ChunkAcceptor,
        options: IntakeOptions,
    ) -> None:
        self._ledger = ledger
        self._guard = guard
        self._acceptor = acceptor
        self._options = options

    async def request(
        self,
        principal: Principal,
        upload_id: str,
        *,
        total_chunks: int | None = None,
        sha256: bytes | None = None,
        crc32c: int | None = None,
    ) -> Completion:
        """Fix the number of chunks and start the completion. Idempotent.

        Raise `InvalidArgument`, the errors of `UploadGuard.check`, those of
        `UploadLedger.request_completion` and those of `check_not_ended`.
        """
        if total_chunks is not None and not 0 <= total_chunks <= MAX_CHUNKS:
            raise InvalidArgument(
                "BAD_TOTAL_CHUNKS",
                f"An upload has at most {MAX_CHUNKS} chunks; an empty one has none, or one without "
                "bytes.",
                field="total_chunks",
            )
        if sha256 is not None:
            check_sha256(sha256)
        await self._guard.check(principal, Action.COMPLETE_UPLOAD, upload_id)
        return await self.request_unchecked(
            principal.tenant, upload_id, total_chunks=total_chunks, sha256=sha256, crc32c=crc32c
        )

    async def request_unchecked(
        self,
        tenant: str,
        upload_id: str,
        *,
        total_chunks: int | None = None,
        sha256: bytes | None = None,
        crc32c: int | None = None,
    ) -> Completion:
        """Start the completion with arguments that are valid, for a caller that may."""
        with reporting_lost_uploads(self._ledger, upload_id):
            try:
                completion = await self._ledger.request_completion(
                    upload_id, total_chunks, sha256, crc32c
                )
            except FailedPrecondition:
                # The end of the upload takes precedence over other errors of the request.
                check_not_ended(await self._ledger.get(upload_id))
                raise
        check_not_ended(completion.snapshot)  # a ledger that discards completes at once
        await self._acceptor.enqueue_hints(upload_id, tenant, completion)
        return completion

    async def wait(self, snapshot: UploadSnapshot, seconds: float) -> UploadSnapshot:
        """Return the upload once it is COMPLETED, or its current state after `seconds`.

        Raise the errors of `check_not_ended`.
        """
        snapshot = await self._wait_until_ended(snapshot, seconds)
        check_not_ended(snapshot)
        return snapshot

    async def _wait_until_ended(self, snapshot: UploadSnapshot, seconds: float) -> UploadSnapshot:
        if is_terminal(snapshot.status):
            return snapshot
        upload_id, ledger = snapshot.upload_id, self._ledger
        with reporting_lost_uploads(ledger, upload_id):
            try:
                async with (
                    asyncio.timeout(min(seconds, self._options.max_complete_wait_seconds)),
                    snapshots_after(
                        ledger, upload_id, snapshot.sequence, only_end=True
                    ) as snapshots,
                ):
                    async for ended in snapshots:
                        return ended
            except TimeoutError:
                pass
            return await ledger.get(upload_id)

    async def abort(self, principal: Principal, upload_id: str) -> UploadSnapshot:
        """Abort the upload. A no-op if it has failed, expired or been aborted already."""
        await self._guard.check(principal, Action.ABORT_UPLOAD, upload_id)
        with reporting_lost_uploads(self._ledger, upload_id):
            return await self._ledger.abort(upload_id)
