"""Upload status with received and missing chunks: read, watched or listed (rule 27)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from sluice_common.rpc.paging import decode_page_token, encode_page_token, page_limit
from sluice_core.access.actions import Action
from sluice_core.access.principal import Principal
from sluice_core.errors import InvalidArgument
from sluice_core.ports import LifecycleLedger
from sluice_core.uploads.model import MissingChunks, UploadSnapshot, UploadStatus
from sluice_core.uploads.states import is_terminal
from sluice_intake.lookup import UploadGuard, reporting_lost_uploads
from sluice_intake.options import IntakeOptions
from sluice_intake.snapshots import snapshots_after

_NOTHING_MISSING = MissingChunks((), truncated=False)
_UNKNOWN_MISSING = MissingChunks((), truncated=True)


@dataclass(frozen=True, slots=True)
class Status:
    """An upload and its gaps."""

    snapshot: UploadSnapshot
    missing: MissingChunks


@dataclass(frozen=True, slots=True)
class StatusPage:
    """One page of uploads, without their gaps, which `truncated` indicates."""

    uploads: tuple[Status, ...]
    next_page_token: str


class StatusReader:
    """The stage that reads the status of uploads."""

    def __init__(self, ledger: LifecycleLedger, guard: UploadGuard, options: IntakeOptions) -> None:
        self._ledger = ledger
        self._guard = guard
        self._options = options

    async def get(self, principal: Principal, upload_id: str) -> Status:
        return await self.of(await self._guard.find(principal, Action.GET_UPLOAD_STATUS, upload_id))

    async def of(self, snapshot: UploadSnapshot) -> Status:
        """Return the snapshot with its gaps; none are reported for an upload that has ended."""
        if is_terminal(snapshot.status):
            return self.of_ended(snapshot)
        with reporting_lost_uploads(self._ledger, snapshot.upload_id):
            missing = await self._ledger.missing_chunks(
                snapshot.upload_id, self._options.max_missing_ranges
            )
        return Status(snapshot, missing)

    @staticmethod
    def of_ended(snapshot: UploadSnapshot) -> Status:
        """Return the status of an upload in a terminal state."""
        return Status(snapshot, _NOTHING_MISSING)

    async def watch(
        self, principal: Principal, upload_id: str, after_sequence: int
    ) -> AsyncGenerator[Status, None]:
        """Yield the coalesced changes after `after_sequence` until the upload ends.

        The rate is limited: an upload of small chunks changes thousands of times a second.
        """
        if after_sequence < 0:
            raise InvalidArgument(
                "BAD_SEQUENCE",
                "The sequence number is negative; send 0 or that of a status.",
                field="after_sequence",
            )
        call = (principal, Action.WATCH_UPLOAD, upload_id)
        await self._guard.check(*call)
        recheck = self._guard.recheck(*call)
        with reporting_lost_uploads(self._ledger, upload_id):
            async with snapshots_after(self._ledger, upload_id, after_sequence) as snapshots:
                async for snapshot in snapshots:
                    await recheck.run_if_due()
                    yield await self.of(snapshot)
                    if not is_terminal(snapshot.status):
                        await asyncio.sleep(self._options.watch_interval_seconds)

    async def list(
        self,
        principal: Principal,
        statuses: frozenset[UploadStatus],
        page_size: int,
        page_token: str,
    ) -> StatusPage:
        """Return one page of the uploads that the caller may see, newest first.

        It may be short or empty although another one follows.
        """
        listing = (principal.tenant, *sorted(statuses))
        page = await self._ledger.list_uploads(
            principal.tenant,
            statuses,
            page_limit(page_size),
            decode_page_token(page_token, *listing),
        )
        uploads = await self._guard.visible(principal, page.uploads)
        return StatusPage(
            tuple(Status(snapshot, _UNKNOWN_MISSING) for snapshot in uploads),
            encode_page_token(page.next_after, *listing),
        )
