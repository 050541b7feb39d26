"""One look at an upload for all who want one at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from sluice_core.uploads.model import UploadSnapshot

GATHER_SECONDS: Final = 0.002
"""A stream, a CompleteUpload and a WatchUpload of one client are woken by the same change, and
changes come in twos: a part is recorded, the upload completes."""


class CoalescedReads:
    """Asks the ledger once for everybody who asks within GATHER_SECONDS.

    Each gets a snapshot that was taken after it had asked, or the error of taking it.
    """

    def __init__(self, look: Callable[[str], Awaitable[UploadSnapshot]]) -> None:
        self._look = look
        self._gathering: dict[str, asyncio.Future[UploadSnapshot]] = {}

    async def at(self, upload_id: str) -> UploadSnapshot:
        """The upload as it is now."""
        while True:
            shared = self._gathering.get(upload_id)
            if shared is None:
                return await self._lead(upload_id)
            await asyncio.wait([shared])
            if not shared.cancelled():
                return shared.result()
            # Who was to look has gone; one of those who are left does it.

    async def _lead(self, upload_id: str) -> UploadSnapshot:
        shared: asyncio.Future[UploadSnapshot] = asyncio.get_running_loop().create_future()
        self._gathering[upload_id] = shared
        try:
            try:
                await asyncio.sleep(GATHER_SECONDS)
            finally:
                # Whoever comes now may have been woken by a change that this look does not see.
                del self._gathering[upload_id]
            shared.set_result(await self._look(upload_id))
        except Exception as error:  # noqa: BLE001 - raised below, and by all who wait
            shared.set_exception(error)
        finally:
            shared.cancel()  # if nothing came of it
        return shared.result()
