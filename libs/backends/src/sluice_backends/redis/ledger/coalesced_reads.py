"""Coalesced reads of an upload."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from sluice_core.uploads.model import UploadSnapshot

COALESCE_SECONDS: Final = 0.002
"""Window of coalescing. One change wakes a stream, a CompleteUpload and a WatchUpload of a client,
and changes come in pairs: a part is recorded, the upload completes."""


class CoalescedReads:
    """Reads each upload once for all callers within COALESCE_SECONDS.

    Each caller gets a snapshot that was read after its call, or the error of the read.
    """

    def __init__(self, read: Callable[[str], Awaitable[UploadSnapshot]]) -> None:
        self._read = read
        self._pending: dict[str, asyncio.Future[UploadSnapshot]] = {}

    async def get(self, upload_id: str) -> UploadSnapshot:
        """Return the current snapshot of an upload."""
        while True:
            shared = self._pending.get(upload_id)
            if shared is None:
                return await self._lead(upload_id)
            await asyncio.wait([shared])
            if not shared.cancelled():
                return shared.result()
            # The leading caller was cancelled; a waiting one takes over.

    async def _lead(self, upload_id: str) -> UploadSnapshot:
        shared: asyncio.Future[UploadSnapshot] = asyncio.get_running_loop().create_future()
        self._pending[upload_id] = shared
        try:
            try:
                await asyncio.sleep(COALESCE_SECONDS)
            finally:
                # A later caller may have been woken by a change that this read does not see.
                del self._pending[upload_id]
            shared.set_result(await self._read(upload_id))
        except Exception as error:  # noqa: BLE001 - raised below, and in all waiting callers
            shared.set_exception(error)
        finally:
            shared.cancel()  # no-op unless this call was cancelled
        return shared.result()
