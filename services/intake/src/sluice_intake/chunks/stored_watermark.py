"""`Stored` notifications of a stream: every rise of its upload's watermark, sent once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from sluice_core.errors import NotFound, SluiceError
from sluice_core.ports import LifecycleLedger
from sluice_core.uploads.model import UploadSnapshot
from sluice_intake.snapshots import snapshots_after

_log = structlog.get_logger(__name__)

_COALESCE_SECONDS = 0.02
"""Changes of an upload that are closer together than this are coalesced."""

FOLLOW_DELAY_SECONDS = 0.2
"""Delay before a stream follows its upload. A shorter stream, such as that of a photo, never has
to: it sends the watermark that its accepts returned."""

_RETRY_SECONDS = 1.0

SendStored = Callable[[int, int], Awaitable[None]]
"""Send Stored for (watermark, part number)."""


class StoredNotifier:
    """Follows the upload of one stream and sends every rise of its watermark once.

    It never sends a watermark before the stream has acknowledged its own chunks below it: the
    watch may report a stored chunk before the accept of that chunk has returned.
    """

    def __init__(self, ledger: LifecycleLedger, send: SendStored) -> None:
        self._ledger = ledger
        self._send = send
        self._sent_watermark = 0
        self._watermark = 0
        self._part_number = 0
        self._unacknowledged: list[int] = []

    def accept_started(self, number: int) -> None:
        """Record a running accept; `acknowledged` must follow unless the stream fails."""
        self._unacknowledged.append(number)

    async def acknowledged(self, number: int, snapshot: UploadSnapshot) -> None:
        """Record an acknowledged chunk; send the watermark if it has risen."""
        self._unacknowledged.remove(number)
        await self._send_if_risen(snapshot)

    async def _send_if_risen(self, snapshot: UploadSnapshot) -> None:
        if snapshot.stored_watermark > self._watermark:
            self._watermark = snapshot.stored_watermark
            self._part_number = snapshot.stored_parts
        watermark = self._watermark
        if watermark <= self._sent_watermark or any(
            number < watermark for number in self._unacknowledged
        ):
            return
        # Set before the write, so that only one of two tasks with the same watermark sends it.
        self._sent_watermark = watermark
        await self._send(watermark, self._part_number)

    async def follow(self, upload_id: str) -> None:
        """Send the watermark of every snapshot until the upload ends.

        A failed watch is retried: `Stored` is best effort and must not end the stream.
        """
        sequence = 0
        while True:
            try:
                async with snapshots_after(self._ledger, upload_id, sequence) as snapshots:
                    async for snapshot in snapshots:
                        sequence = snapshot.sequence
                        await self._send_if_risen(snapshot)
                        # Every accepted chunk changes the upload, but only a stored part raises
                        # the watermark: coalescing saves one ledger read per chunk.
                        await asyncio.sleep(_COALESCE_SECONDS)
                return
            except NotFound:
                return
            except SluiceError as error:
                _log.warning("upload.watch_failed", upload_id=upload_id, reason=error.reason)
                await asyncio.sleep(_RETRY_SECONDS)
