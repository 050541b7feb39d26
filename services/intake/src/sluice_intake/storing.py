"""Telling a stream's client which chunks are stored, by the watermark of its upload."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from sluice_common.coordination.ports import UploadLedger
from sluice_common.errors import NotFound, SluiceError
from sluice_common.telemetry.metrics import Metrics
from sluice_common.uploads.model import UploadSnapshot
from sluice_intake.watching import snapshots_after

_log = structlog.get_logger(__name__)

_RETRY_SECONDS = 1.0
_MAX_MEASURED_CHUNKS = 1024
"""Chunks whose time to `Stored` is measured at once; more would only cost memory."""

Tell = Callable[[int, int], Awaitable[None]]
"""Send Stored for (watermark, part number)."""


class StoredNotices:
    """Watches one upload and tells every rise of its watermark once."""

    def __init__(self, ledger: UploadLedger, upload_id: str, tell: Tell, metrics: Metrics) -> None:
        self._ledger = ledger
        self._upload_id = upload_id
        self._tell = tell
        self._seconds = metrics.ack_seconds.labels("stored")
        self._watermark = 0
        self._last_byte_at: dict[int, float] = {}

    def expect(self, number: int, last_byte_at: float) -> None:
        """Measure the time of this chunk from its last byte to its `Stored`."""
        if number >= self._watermark and len(self._last_byte_at) < _MAX_MEASURED_CHUNKS:
            self._last_byte_at[number] = last_byte_at

    async def note(self, snapshot: UploadSnapshot) -> None:
        """Tell the watermark if it has risen."""
        watermark = snapshot.stored_watermark
        if watermark <= self._watermark:
            return
        # Set before the write, so that of two tasks with one snapshot only one tells it.
        self._watermark = watermark
        await self._tell(watermark, snapshot.stored_parts)
        now = time.perf_counter()
        for number in [number for number in self._last_byte_at if number < watermark]:
            self._seconds.observe(now - self._last_byte_at.pop(number))

    async def follow(self) -> None:
        """Note every snapshot until the upload ends.

        A ledger that does not answer is asked again: `Stored` is a service to the client, and no
        reason to end its stream.
        """
        sequence = 0
        while True:
            try:
                async with snapshots_after(self._ledger, self._upload_id, sequence) as snapshots:
                    async for snapshot in snapshots:
                        sequence = snapshot.sequence
                        await self.note(snapshot)
                return
            except NotFound:
                return
            except SluiceError as error:
                _log.warning("watch.failed", upload_id=self._upload_id, reason=error.reason)
                await asyncio.sleep(_RETRY_SECONDS)
