"""Room of open uploads under a quota, reserved before their bytes are read (ADR 0024)."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import ResourceExhausted, SluiceError
from sluice_core.ports import ChunkOffer, LifecycleLedger
from sluice_core.ports.catalogue import Drive
from sluice_core.ports.quotas import QUOTA_EXCEEDED
from sluice_core.uploads.model import MAX_OBJECT_BYTES, NewUpload
from sluice_core.uploads.states import TAKES_CHUNKS
from sluice_intake.drives import DriveDirectory

_log = structlog.get_logger(__name__)

_FRESH_SECONDS: Final = 60.0
_UNKNOWN_SECONDS: Final = 10.0
"""Time until the drive of an upload is asked for again while nobody answers."""
_RECOUNT_SECONDS: Final = 10.0
"""Time until a chunk that waits for an open one counts again in any case."""
_MAX_UPLOADS: Final = 20_000
_MAX_GAPS: Final = 1_000


@dataclass(slots=True)
class UploadRoom:
    """What this process knows of the room of an upload that is reserved chunk by chunk.

    `counted_bytes` is never below what the ledger has received from this process, apart from the
    chunks in `open`.
    """

    tenant: str
    drive: str
    fresh_until: float
    most_bytes: int = MAX_OBJECT_BYTES
    """Size that is never reserved beyond, unless the chunks need it."""
    reserved_bytes: int = 0
    counted_bytes: int = 0
    open: dict[str, int] = field(default_factory=dict)
    open_bytes: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an open chunk is closed."""

    def holds(self, more_bytes: int) -> bool:
        return self.counted_bytes + self.open_bytes + more_bytes <= self.reserved_bytes


class UploadRooms:
    """Reserves the room of uploads.

    An upload that declares its size reserves it when it is initiated. Any other one reserves more,
    at most a step ahead, before it goes beyond what it holds. An upload of a drive without a quota
    costs a look-up in a table of this process. The commit of the node checks the exact size again.

    Args:
        step_bytes: most bytes that an upload of unknown size reserves ahead.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        ledger: LifecycleLedger,
        drives: DriveDirectory,
        *,
        step_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._drives = drives
        self._step_bytes = step_bytes
        self._clock = clock
        self._free: OrderedDict[str, float] = OrderedDict()
        """Uploads whose chunks need no check, with the time until which that is certain."""
        self._rooms: OrderedDict[str, UploadRoom] = OrderedDict()
        self._locks: dict[str, asyncio.Lock] = {}

    async def reserve_new(self, drive: Drive, new: NewUpload) -> None:
        """Reserve the declared size of an upload that is about to be opened, or no bytes.

        Raise `ResourceExhausted` QUOTA_EXCEEDED, `Unavailable` DRIVES_UNAVAILABLE.
        """
        if drive.has_quota:
            size = new.expected_size or 0
            await self._drives.reserve(new.tenant, new.drive, new.upload_id, size)

    async def release_new(self, drive: Drive, new: NewUpload) -> None:
        """Give the room of an upload that was not opened back, best effort."""
        if not drive.has_quota:
            return
        try:
            await self._drives.release(new.tenant, new.drive, new.upload_id)
        except SluiceError as error:
            # The sweeper releases the reservation of an unknown upload.
            _log.warning("reservation.release_failed", upload_id=new.upload_id, reason=error.reason)

    async def give_back(self, drive: Drive, new: NewUpload) -> None:
        """Reduce the room of an upload that another request opened to what that one needs.

        Both requests reserved under one upload id; the larger size, or the room in a second drive,
        would stay as long as the upload. Best effort: without its room the upload needs it anew at
        its commit.
        """
        if not drive.has_quota:
            return
        await self.release_new(drive, new)
        try:
            winner = await self._ledger.get(new.upload_id)
            if winner.new.drive == drive.name and winner.status in TAKES_CHUNKS:
                size = winner.new.expected_size
                held = winner.received_bytes if size is None else size
                await self._drives.reserve(new.tenant, new.drive, new.upload_id, held)
        except SluiceError as error:
            _log.warning("reservation.reduce_failed", upload_id=new.upload_id, reason=error.reason)
        self._rooms.pop(new.upload_id, None)

    def opened(self, drive: Drive, new: NewUpload) -> None:
        """Remember an upload, so that its first chunk needs no look-up."""
        self._remember(new.upload_id, drive, is_free=_is_free(drive, new))

    async def open_chunk(self, offer: ChunkOffer) -> UploadRoom | None:
        """Return once the bytes of the chunk are reserved. Call `close_chunk` afterwards.

        Return the room that holds them, None for a chunk that needs none. Raise
        `ResourceExhausted` QUOTA_EXCEEDED, `NotFound`, `Unavailable` DRIVES_UNAVAILABLE.
        """
        if self._clock() < self._free.get(offer.upload_id, 0.0):
            return None
        room = await self._room_of(offer.upload_id)
        if room is None:
            return None
        if not room.holds(offer.size):
            async with room.lock:
                if not await self._grow(room, offer):
                    return None
        room.open[offer.token] = offer.size
        room.open_bytes += offer.size
        return room

    def close_chunk(self, room: UploadRoom | None, offer: ChunkOffer) -> None:
        """Record that the chunk was accepted or discarded.

        Args:
            room: what `open_chunk` returned. The upload may have another room by now, or none, and
                chunks may still wait for this one.
        """
        if room is None or room.open.pop(offer.token, None) is None:
            return
        room.open_bytes -= offer.size
        # It may be a duplicate: then this counts too much, and the ledger is asked the sooner.
        room.counted_bytes += offer.size
        room.closed.set()

    async def _grow(self, room: UploadRoom, offer: ChunkOffer) -> bool:
        """Reserve room for one more chunk, under the lock of the upload.

        Return False for a chunk that the ledger has already: it needs none.
        """
        while not room.holds(offer.size):
            room.closed.clear()
            before = room.counted_bytes
            received_bytes = (await self._ledger.get(offer.upload_id)).received_bytes
            # Chunks that were closed meanwhile may or may not be in the answer. Those that are
            # accepted and still open count twice. Both matter at the limit only, see below.
            room.counted_bytes = received_bytes + room.counted_bytes - before
            if room.holds(offer.size):
                break
            try:
                await self._reserve(room, offer)
            except ResourceExhausted as error:
                if error.reason != QUOTA_EXCEEDED:
                    raise
                if await self._is_received(offer):
                    return False
                if not room.open and not room.closed.is_set():
                    raise
                # Count again without the open chunks, so that what fits exactly is not refused.
                # At most a while: the quota may have grown since.
                await wait_at_most(room.closed, _RECOUNT_SECONDS)
        return True

    async def _reserve(self, room: UploadRoom, offer: ChunkOffer) -> None:
        """Reserve ahead, or exactly what is needed when more does not fit.

        The first chunk reserves no more than itself, and later ones at most as much again: small
        uploads must not withhold whole steps from others.
        """
        needed = room.counted_bytes + room.open_bytes + offer.size
        ahead = min(self._step_bytes, needed) if room.reserved_bytes else 0
        for size in dict.fromkeys((max(min(needed + ahead, room.most_bytes), needed), needed)):
            try:
                await self._drives.reserve(room.tenant, room.drive, offer.upload_id, size)
            except ResourceExhausted as error:
                if error.reason != QUOTA_EXCEEDED or size == needed:
                    raise
            else:
                room.reserved_bytes = max(room.reserved_bytes, size)
                return

    async def _is_received(self, offer: ChunkOffer) -> bool:
        missing = await self._ledger.missing_chunks(offer.upload_id, _MAX_GAPS)
        snapshot = await self._ledger.get(offer.upload_id)
        return (
            not missing.truncated
            and offer.number <= snapshot.highest_number
            and not any(gap.first <= offer.number <= gap.last for gap in missing.ranges)
        )

    async def _room_of(self, upload_id: str) -> UploadRoom | None:
        """Return the room of an upload, None for one whose chunks need no check.

        What is known of an upload is at most a minute old, as its drive.
        """
        room = self._rooms.get(upload_id)
        if room is not None and self._clock() < room.fresh_until:
            return room
        lock = self._locks.setdefault(upload_id, asyncio.Lock())
        try:
            async with lock:
                room = self._rooms.get(upload_id)
                if room is not None and self._clock() < room.fresh_until:
                    return room
                return await self._load(upload_id)
        finally:
            if not lock.locked():
                self._locks.pop(upload_id, None)

    async def _load(self, upload_id: str) -> UploadRoom | None:
        owner = await self._ledger.owner_of(upload_id)
        try:
            drive = (await self._drives.get(owner.tenant, owner.drive, with_grants=False)).drive
        except SluiceError as error:
            # Whether the caller may send chunks was decided before; the commit checks the quota.
            _log.warning("quota.check_skipped", upload_id=upload_id, reason=error.reason)
            self._remember_free(upload_id, _UNKNOWN_SECONDS)
            return None
        if not drive.has_quota:
            self._remember_free(upload_id, _FRESH_SECONDS)
            return None
        snapshot = await self._ledger.get(upload_id)
        # A completing upload takes only duplicates, and a reservation could outlive its commit.
        is_free = snapshot.status not in TAKES_CHUNKS or await self._holds_all(drive, snapshot.new)
        return self._remember(upload_id, drive, is_free=is_free, size=snapshot.new.expected_size)

    async def _holds_all(self, drive: Drive, new: NewUpload) -> bool:
        """Reserve the declared size; return whether the chunks need no more room.

        The upload may have begun before the quota, without one that fits. Then its chunks take the
        room that there is, like those of an upload of unknown size. Otherwise nothing is reserved
        twice.
        """
        if not _is_free(drive, new):
            return False
        try:
            await self.reserve_new(drive, new)
        except ResourceExhausted as error:
            if error.reason != QUOTA_EXCEEDED:
                raise
            return False
        return True

    def _remember(
        self, upload_id: str, drive: Drive, *, is_free: bool, size: int | None = None
    ) -> UploadRoom | None:
        if is_free:
            self._remember_free(upload_id, _FRESH_SECONDS)
            return None
        fresh_until = self._clock() + _FRESH_SECONDS
        self._free.pop(upload_id, None)
        room = self._rooms.setdefault(upload_id, UploadRoom(drive.tenant, drive.name, fresh_until))
        room.most_bytes = MAX_OBJECT_BYTES if size is None else size
        room.fresh_until = fresh_until
        self._rooms.move_to_end(upload_id)
        while len(self._rooms) > _MAX_UPLOADS:
            self._rooms.popitem(last=False)
        return room

    def _remember_free(self, upload_id: str, seconds: float) -> None:
        self._rooms.pop(upload_id, None)
        self._free[upload_id] = self._clock() + seconds
        self._free.move_to_end(upload_id)
        while len(self._free) > _MAX_UPLOADS:
            self._free.popitem(last=False)


def _is_free(drive: Drive, new: NewUpload) -> bool:
    """Return whether the chunks need no check, because all their room is reserved or no quota."""
    return not drive.has_quota or new.expected_size is not None
