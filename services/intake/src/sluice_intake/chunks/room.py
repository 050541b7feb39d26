"""The room that one chunk holds in the budget while its bytes arrive (rule 9)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from sluice_core.ports import Admission, ChunkOffer

RequestRoom = Callable[[ChunkOffer, int], Awaitable[Admission]]
"""Request `hold_bytes` of the offer, as many more than it holds as the second argument says; return
the admission once the room is granted."""

OPENING_BYTES: Final = 64 * 1024
"""Room of a chunk of which no byte has arrived."""

_GROWTH: Final = 4
"""Growth factor of the room: it keeps the number of requests small for fast clients."""

_MAX_AHEAD_BYTES: Final = 8 * 1024 * 1024
"""Most room held ahead of the arrived bytes, so that a client that stops sending withholds little
from others."""


def room_for(arrived_bytes: int, size: int) -> int:
    """Return the bytes that a chunk of `size` bytes holds once `arrived_bytes` have arrived."""
    if size <= OPENING_BYTES:
        return size
    ahead = min((_GROWTH - 1) * arrived_bytes, _MAX_AHEAD_BYTES)
    return min(size, max(OPENING_BYTES, arrived_bytes + ahead))


class ChunkRoom:
    """The reservation of one chunk, which grows in steps as the chunk makes progress.

    Arrived bytes are always covered before they are staged. A renewal can release the room that
    a slow client does not use.
    """

    __slots__ = (
        "_arrived_at_request",
        "_is_guaranteed",
        "_offer",
        "_request",
        "_request_lock",
        "_requested_at",
        "held_bytes",
    )

    def __init__(self, offer: ChunkOffer, request: RequestRoom) -> None:
        self.held_bytes = 0
        self._offer = offer
        self._request = request
        self._request_lock: asyncio.Lock | None = None
        self._requested_at = 0.0
        self._arrived_at_request = 0
        self._is_guaranteed = False

    async def open(self, arrived_bytes: int) -> Admission:
        """Reserve the first room of the chunk, of which `arrived_bytes` have arrived already."""
        return await self._hold(room_for(arrived_bytes, self._offer.size), arrived_bytes)

    async def cover(self, arrived_bytes: int) -> None:
        """Grow the reservation if it does not cover `arrived_bytes`."""
        async with self._lock():
            if arrived_bytes > self.held_bytes:
                await self._hold(room_for(arrived_bytes, self._offer.size), arrived_bytes)

    def seconds_since_request(self) -> float:
        return time.monotonic() - self._requested_at

    async def renew(self, arrived_bytes: int, *, shrink: bool) -> Admission | None:
        """Renew the reservation; None while another request, which renews it too, is running.

        Args:
            shrink: hold only the arrived bytes plus as many as arrived since the last request.
        """
        if self._lock().locked():
            return None
        async with self._lock():
            hold_bytes = self.held_bytes
            if shrink and not self._is_guaranteed:
                recent_bytes = max(arrived_bytes - self._arrived_at_request, OPENING_BYTES)
                hold_bytes = min(hold_bytes, arrived_bytes + recent_bytes)
            return await self._hold(hold_bytes, arrived_bytes)

    async def _hold(self, hold_bytes: int, arrived_bytes: int) -> Admission:
        is_whole = hold_bytes >= self._offer.size
        offer = self._offer if is_whole else replace(self._offer, hold_bytes=hold_bytes)
        more_bytes = max(0, hold_bytes - self.held_bytes)
        admission = await self._request(offer, more_bytes)
        self.held_bytes = admission.held_bytes
        # More than requested comes from the reserve, which lets this chunk finish.
        self._is_guaranteed |= admission.held_bytes > hold_bytes
        self._requested_at = time.monotonic()
        self._arrived_at_request = arrived_bytes
        return admission

    def _lock(self) -> asyncio.Lock:
        """Return the lock. It is created lazily: most chunks request room only once."""
        if self._request_lock is None:
            self._request_lock = asyncio.Lock()
        return self._request_lock
