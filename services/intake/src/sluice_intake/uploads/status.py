"""What has arrived and what is missing: asked once, pushed, or listed (rule 27)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from sluice_common.rpc.paging import decode_page_token, encode_page_token, page_limit
from sluice_core.access.principal import Principal
from sluice_core.errors import InvalidArgument
from sluice_core.ports import UploadLedger
from sluice_core.uploads.model import MissingChunks, UploadSnapshot, UploadStatus
from sluice_core.uploads.states import is_terminal
from sluice_intake.lookup import check_upload, find_upload, telling_lost
from sluice_intake.options import IntakeOptions
from sluice_intake.snapshots import snapshots_after

_NOTHING_MISSING = MissingChunks((), truncated=False)
_NOT_LOOKED_UP = MissingChunks((), truncated=True)


@dataclass(frozen=True, slots=True)
class Status:
    """An upload and its gaps."""

    snapshot: UploadSnapshot
    missing: MissingChunks


@dataclass(frozen=True, slots=True)
class StatusPage:
    """One page of uploads; the gaps of a list are not looked up, which `truncated` says."""

    uploads: tuple[Status, ...]
    next_page_token: str


class Statuses:
    """Answers for uploads."""

    def __init__(self, ledger: UploadLedger, options: IntakeOptions) -> None:
        self._ledger = ledger
        self._options = options

    async def get(self, principal: Principal, upload_id: str) -> Status:
        return await self.of(await find_upload(self._ledger, principal, upload_id))

    async def of(self, snapshot: UploadSnapshot) -> Status:
        """The snapshot with its gaps, of which an upload that has ended has none to tell."""
        if is_terminal(snapshot.status):
            return self.of_ended(snapshot)
        with telling_lost(self._ledger, snapshot.upload_id):
            missing = await self._ledger.missing_chunks(
                snapshot.upload_id, self._options.max_missing_ranges
            )
        return Status(snapshot, missing)

    @staticmethod
    def of_ended(snapshot: UploadSnapshot) -> Status:
        """An upload in a terminal state."""
        return Status(snapshot, _NOTHING_MISSING)

    async def watch(
        self, principal: Principal, upload_id: str, after_sequence: int
    ) -> AsyncGenerator[Status, None]:
        """Every change after `after_sequence`, steps in between merged, until the upload ends.

        Slower than changes come on purpose: an upload of small chunks changes thousands of times
        a second, and nobody reads that.
        """
        if after_sequence < 0:
            raise InvalidArgument(
                "BAD_SEQUENCE", "A sequence number is not negative.", field="after_sequence"
            )
        await check_upload(self._ledger, principal, upload_id)
        with telling_lost(self._ledger, upload_id):
            async with snapshots_after(self._ledger, upload_id, after_sequence) as snapshots:
                async for snapshot in snapshots:
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
        """The uploads of the caller's tenant, newest first."""
        listing = (principal.tenant, *sorted(statuses))
        page = await self._ledger.list_uploads(
            principal.tenant,
            statuses,
            page_limit(page_size),
            decode_page_token(page_token, *listing),
        )
        return StatusPage(
            tuple(Status(snapshot, _NOT_LOOKED_UP) for snapshot in page.uploads),
            encode_page_token(page.next_after, *listing),
        )
