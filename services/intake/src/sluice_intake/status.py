"""What has arrived and what is missing: asked once, pushed, or listed (rule 27)."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from sluice_common.coordination.ports import UploadLedger
from sluice_common.errors import InvalidArgument
from sluice_common.security.principal import Principal
from sluice_common.uploads.model import MissingChunks, UploadSnapshot, UploadStatus
from sluice_common.uploads.states import is_terminal
from sluice_intake.lookup import find_upload, telling_lost
from sluice_intake.options import IntakeOptions
from sluice_intake.watching import snapshots_after

_DEFAULT_PAGE_SIZE = 100
_MAX_PAGE_SIZE = 1000
_MAX_TOKEN_CHARACTERS = 512

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
            return Status(snapshot, _NOTHING_MISSING)
        with telling_lost(self._ledger, snapshot.upload_id):
            missing = await self._ledger.missing_chunks(
                snapshot.upload_id, self._options.max_missing_ranges
            )
        return Status(snapshot, missing)

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
        await find_upload(self._ledger, principal, upload_id)
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
        if page_size < 0:
            raise InvalidArgument(
                "BAD_PAGE_SIZE", "A page size is not negative; 0 means 100.", field="page_size"
            )
        limit = min(page_size or _DEFAULT_PAGE_SIZE, _MAX_PAGE_SIZE)
        page = await self._ledger.list_uploads(
            principal.tenant, statuses, limit, _cursor_of(page_token)
        )
        return StatusPage(
            tuple(Status(snapshot, _NOT_LOOKED_UP) for snapshot in page.uploads),
            _token_of(page.next_after),
        )


def _token_of(cursor: str) -> str:
    """A page token: opaque, so that the ledger may change its cursors."""
    return base64.urlsafe_b64encode(cursor.encode()).decode()


def _cursor_of(token: str) -> str:
    try:
        if len(token) > _MAX_TOKEN_CHARACTERS:
            raise ValueError
        cursor = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise InvalidArgument(
            "BAD_PAGE_TOKEN",
            "Send the next_page_token of the page before, or none for the first page.",
            field="page_token",
        ) from None
    return cursor
