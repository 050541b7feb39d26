"""How long the acknowledgements of a stream take, from the last byte of each chunk."""

from __future__ import annotations

import time
from typing import Final

from sluice_intake.chunks.stored_watermark import SendStored
from sluice_intake.metrics import IntakeMetrics

_MAX_CHUNKS: Final = 1024
"""Most chunks whose time to `Stored` is measured at once, which bounds the memory."""


class AckTimes:
    """Observes `sluice_ack_seconds` of one stream, at both levels.

    Times of the last byte are readings of `time.perf_counter`, in seconds.
    """

    def __init__(self, metrics: IntakeMetrics) -> None:
        self._accepted = metrics.ack_seconds.labels("accepted")
        self._stored = metrics.ack_seconds.labels("stored")
        self._watermark = 0
        self._last_byte_at: dict[int, float] = {}

    def accepted(self, number: int, last_byte_at: float) -> None:
        """Observe `Accepted` of a chunk, which has just been sent."""
        self._accepted.observe(time.perf_counter() - last_byte_at)
        if number >= self._watermark and len(self._last_byte_at) < _MAX_CHUNKS:
            self._last_byte_at[number] = last_byte_at

    def measured(self, send: SendStored) -> SendStored:
        """Return `send` with a measurement of every chunk below the watermark that it has sent.

        The result refers to `send` and to these times only: a stream that refers to it is freed as
        soon as it ends.
        """

        async def send_and_observe(watermark: int, part_number: int) -> None:
            await send(watermark, part_number)
            self.stored(watermark)

        return send_and_observe

    def stored(self, watermark: int) -> None:
        """Observe `Stored` of every chunk below `watermark`, which has just been sent."""
        self._watermark = max(self._watermark, watermark)
        now = time.perf_counter()
        for number in [number for number in self._last_byte_at if number < watermark]:
            self._stored.observe(now - self._last_byte_at.pop(number))
