"""Telling a stream's client which chunks are stored, by the watermark of its upload."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from sluice_common.telemetry.metrics import Metrics
from sluice_core.errors import NotFound, SluiceError
from sluice_core.ports import UploadLedger
from sluice_core.uploads.model import UploadSnapshot
from sluice_intake.snapshots import snapshots_after

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.02
"""Changes of an upload that come closer together than this are seen as one."""

FIRST_LOOK_SECONDS = 0.2
"""Following begins so long after the upload is known. A stream that ends sooner, as that of a
photo does, need not have followed anything: what its accepts saw of the watermark is told."""

_RETRY_SECONDS = 1.0
_MAX_MEASURED_CHUNKS = 1024
"""Chunks whose time to `Stored` is measured at once; more would only cost memory."""

Tell = Callable[[int, int], Awaitable[None]]
"""Send Stored for (watermark, part number)."""


class StoredNotices:
    """Follows the upload of one stream and tells every rise of its watermark once.

    Never before the stream has acknowledged its own chunks below it: the watch may hear of a
    stored chunk before the accept of that very chunk has returned.
    """

    def __init__(self, ledger: UploadLedger, tell: Tell, metrics: Metrics) -> None:
        self._ledger = ledger
        self._tell = tell
        self._seconds = metrics.ack_seconds.labels("stored")
        self._told = 0
        self._watermark = 0
        self._part_number = 0
        self._unanswered: list[int] = []
        self._last_byte_at: dict[int, float] = {}

    def accepting(self, number: int) -> None:
        """The stream is about to accept this chunk; `answered` follows, unless the stream fails."""
        self._unanswered.append(number)

    async def answered(self, number: int, last_byte_at: float, snapshot: UploadSnapshot) -> None:
        """The stream has acknowledged this chunk, whose last byte came at that time."""
        self._unanswered.remove(number)
        if number >= self._told and len(self._last_byte_at) < _MAX_MEASURED_CHUNKS:
            self._last_byte_at[number] = last_byte_at
        await self._note(snapshot)

    async def _note(self, snapshot: UploadSnapshot) -> None:
        """Tell the watermark if it has risen."""
        if snapshot.stored_watermark > self._watermark:
            self._watermark = snapshot.stored_watermark
            self._part_number = snapshot.stored_parts
        watermark = self._watermark
        if watermark <= self._told or any(number < watermark for number in self._unanswered):
            return
        # Set before the write, so that of two tasks with one watermark only one tells it.
        self._told = watermark
        await self._tell(watermark, self._part_number)
        now = time.perf_counter()
        for number in [number for number in self._last_byte_at if number < watermark]:
            self._seconds.observe(now - self._last_byte_at.pop(number))

    async def follow(self, upload_id: str) -> None:
        """Tell of every snapshot until the upload ends.

        A ledger that does not answer is asked again: `Stored` is a service to the client, and no
        reason to end its stream.
        """
        sequence = 0
        while True:
            try:
                async with snapshots_after(self._ledger, upload_id, sequence) as snapshots:
                    async for snapshot in snapshots:
                        sequence = snapshot.sequence
                        await self._note(snapshot)
                        # Every accepted chunk is a change of the upload: looking at each would
                        # ask the ledger once more per chunk, to learn of a part now and then.
                        await asyncio.sleep(_LOOK_SECONDS)
                return
            except NotFound:
                return
            except SluiceError as error:
                _log.warning("watch.failed", upload_id=upload_id, reason=error.reason)
                await asyncio.sleep(_RETRY_SECONDS)
