"""The room that one chunk holds in the budget while its bytes arrive (rule 9)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from sluice_core.ports import Admission, ChunkOffer

Ask = Callable[[ChunkOffer], Awaitable[Admission]]
"""Asks for `hold_bytes` of the offer; returns the admission, once there is room for them."""

OPENING_BYTES: Final = 64 * 1024
"""What a chunk holds before anything of it has arrived."""

_GROWTH: Final = 4
"""Growing by a factor keeps the number of steps small for clients at full speed ..."""

_MAX_AHEAD_BYTES: Final = 8 * 1024 * 1024
"""... and a bound on what is held ahead keeps little from others when a client stops sending."""


def room_for(arrived_bytes: int, size: int) -> int:
    """Bytes that a chunk of `size` holds when so many have arrived."""
    if size <= OPENING_BYTES:
        return size
    ahead = min((_GROWTH - 1) * arrived_bytes, _MAX_AHEAD_BYTES)
    return min(size, max(OPENING_BYTES, arrived_bytes + ahead))


class ChunkRoom:
    """Takes room in steps, keeps it as long as the chunk makes progress, and gives back what a slow
    client does not use. Bytes that arrived are always covered before they are staged.
    """

    __slots__ = (
        "_arrived_when_asked",
        "_ask",
        "_asked_at",
        "_asking",
        "_is_guaranteed",
        "_offer",
        "held_bytes",
    )

    def __init__(self, offer: ChunkOffer, ask: Ask) -> None:
        self.held_bytes = 0
        self._offer = offer
        self._ask = ask
        self._asking: asyncio.Lock | None = None
        self._asked_at = 0.0
        self._arrived_when_asked = 0
        self._is_guaranteed = False

    async def open(self, arrived_bytes: int) -> Admission:
        """Begin the chunk, of which so many bytes are here already."""
        return await self._hold(room_for(arrived_bytes, self._offer.size), arrived_bytes)

    async def cover(self, arrived_bytes: int) -> None:
        """Take the next step when what is held does not reach."""
        async with self._lock():
            if arrived_bytes > self.held_bytes:
                await self._hold(room_for(arrived_bytes, self._offer.size), arrived_bytes)

    def seconds_since_asked(self) -> float:
        return time.monotonic() - self._asked_at

    async def renew(self, arrived_bytes: int, *, shrink: bool) -> Admission | None:
        """Keep the reservation alive; None while a step is being taken, which does that too.

        Args:
            shrink: hold only what has arrived and as much as came since the last call.
        """
        if self._lock().locked():
            return None
        async with self._lock():
            wanted = self.held_bytes
            if shrink and not self._is_guaranteed:
                lately = max(arrived_bytes - self._arrived_when_asked, OPENING_BYTES)
                wanted = min(wanted, arrived_bytes + lately)
            return await self._hold(wanted, arrived_bytes)

    async def _hold(self, wanted: int, arrived_bytes: int) -> Admission:
        whole = wanted >= self._offer.size
        offer = self._offer if whole else replace(self._offer, hold_bytes=wanted)
        admission = await self._ask(offer)
        self.held_bytes = admission.held_bytes
        # More than was asked for comes from the reserve: it is there for this chunk to end.
        self._is_guaranteed |= admission.held_bytes > wanted
        self._asked_at = time.monotonic()
        self._arrived_when_asked = arrived_bytes
        return admission

    def _lock(self) -> asyncio.Lock:
        """Made when it is needed: most chunks ask once."""
        if self._asking is None:
            self._asking = asyncio.Lock()
        return self._asking
