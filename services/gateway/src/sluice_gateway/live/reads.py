"""Reads of topics beside the writing of a session, which goes on keeping its times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sluice_gateway.live.hub import Batch, TopicReader


class Reads:
    """The reads of one session.

    A snapshot may wait long for its turn, and then for the catalogue. Meanwhile heart-beats are
    due, and the replica may stop.

    Args:
        wake: called when a read has ended.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._running: dict[TopicReader, asyncio.Task[Batch]] = {}

    def has_more(self, reader: TopicReader) -> bool:
        """Whether `take` has something to return, to wait for, or to find out."""
        return reader in self._running or reader.has_more

    def take(self, reader: TopicReader) -> Batch | None:
        """Return the next batch, None if it has to be waited for.

        Raise the `SluiceError` of the read.
        """
        reading = self._running.get(reader)
        if reading is None:
            if (batch := reader.read_log()) is not None:
                return batch
            reading = asyncio.create_task(reader.read_catalogue())
            reading.add_done_callback(self._ended)
            self._running[reader] = reading
        if not reading.done():
            return None
        del self._running[reader]
        return reading.result()

    def is_waiting(self, reader: TopicReader) -> bool:
        """Whether a read of this reader is under way."""
        reading = self._running.get(reader)
        return reading is not None and not reading.done()

    def forget(self, reader: TopicReader) -> None:
        """Cancel the read of a reader, if any."""
        if (reading := self._running.pop(reader, None)) is not None:
            reading.cancel()

    async def aclose(self) -> None:
        """Cancel all reads, and wait until they have given back what they hold."""
        running = list(self._running.values())
        self._running.clear()
        for reading in running:
            reading.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _ended(self, reading: asyncio.Task[Batch]) -> None:
        if not reading.cancelled():
            reading.exception()  # of a subscription that has ended nobody asks for it
        self._wake()
