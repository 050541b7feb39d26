"""Room of uploads under a quota, over a ledger in memory and a directory with a limit."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from sluice_backends.memory.ledger import MemoryLedger
from sluice_core.errors import ResourceExhausted, SluiceError, Unavailable
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ports import ChunkOffer
from sluice_core.ports.catalogue import Drive, DrivePolicy
from sluice_core.ports.drive_with_grants import DriveWithGrants
from sluice_core.ports.quotas import QUOTA_EXCEEDED
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import UploadSnapshot
from sluice_intake.quotas import UploadRoom, UploadRooms
from support.ledgers import Driver, FakeClock
from support.virtual_time import in_virtual_time

MINUTE = 60.0


class LimitedDrives:
    """A directory whose drives may hold `limit` bytes of reservations; without a limit any."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self.failure: SluiceError | None = None
        self.reserved: Counter[str] = Counter()
        self.calls = 0

    async def get(
        self, tenant: str, name: str, *, create: bool = False, with_grants: bool = True
    ) -> DriveWithGrants:
        if self.failure is not None:
            raise self.failure
        has_quota = self.limit is not None
        return DriveWithGrants(
            Drive(tenant, name, "", "", DrivePolicy(), 0.0, 0.0, has_quota=has_quota)
        )

    async def holds(self, tenant: str, name: str, path: str) -> bool:
        return False

    async def reserve(self, tenant: str, name: str, upload_id: str, size: int) -> None:
        self.calls += 1
        more = size - self.reserved[upload_id]
        if self.limit is not None and more > 0 and self.reserved.total() + more > self.limit:
            raise ResourceExhausted(QUOTA_EXCEEDED, "The quota is full.")
        self.reserved[upload_id] = max(self.reserved[upload_id], size)

    async def release(self, tenant: str, name: str, upload_id: str) -> None:
        del self.reserved[upload_id]


class Place:
    """Rooms, what they ask, and a sender of chunks."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.driver = Driver(MemoryLedger(LedgerOptions(), self.clock), self.clock)
        self.drives = LimitedDrives()
        self.rooms = self.another_process()

    def another_process(self) -> UploadRooms:
        return UploadRooms(self.driver.ledger, self.drives, step_bytes=1_000, clock=self.clock)

    async def begin(self, expected_size: int | None = None) -> UploadSnapshot:
        new = self.driver.new(expected_size=expected_size)
        drive = (await self.drives.get(new.tenant, new.drive)).drive
        await self.rooms.reserve_new(drive, new)
        snapshot = await self.driver.ledger.create(new)
        self.rooms.opened(drive, new)
        return snapshot

    async def send(self, upload_id: str, number: int, size: int) -> None:
        offer = self.driver.offer(upload_id, number, size)
        await self.accept(await self.rooms.open_chunk(offer), offer)

    async def accept(self, room: UploadRoom | None, offer: ChunkOffer) -> None:
        ledger = self.driver.ledger
        assert (await ledger.admit_chunk(offer)).granted
        await ledger.accept_chunk(offer, crc32c(b"x" * offer.size))
        self.rooms.close_chunk(room, offer)


@pytest.fixture
def at() -> Place:
    return Place()


async def until_waiting(task: asyncio.Task[UploadRoom | None]) -> None:
    """Return once the task waits for an open chunk."""
    await asyncio.sleep(1.0)  # virtual: everything that can run has run
    assert not task.done()


@in_virtual_time
async def test_waiting_chunk_survives_the_loss_of_its_room() -> None:
    """Another chunk looks up the drive a minute later, and the upload needs no room any more."""
    at = Place()
    at.drives.limit = 100
    upload_id = (await at.begin()).upload_id
    first, second, third = (at.driver.offer(upload_id, n, 60) for n in range(3))
    room = await at.rooms.open_chunk(first)
    waiting = asyncio.create_task(at.rooms.open_chunk(second))
    await until_waiting(waiting)
    at.clock.advance(MINUTE + 1)
    at.drives.limit = None
    assert await at.rooms.open_chunk(third) is None
    await at.accept(room, first)
    async with asyncio.timeout(5):
        await waiting


@in_virtual_time
async def test_waiting_chunk_goes_on_when_the_quota_grows() -> None:
    """Also while the chunk that it waits for stays open."""
    at = Place()
    at.drives.limit = 100
    upload_id = (await at.begin()).upload_id
    first, second = (at.driver.offer(upload_id, n, 60) for n in range(2))
    await at.rooms.open_chunk(first)
    waiting = asyncio.create_task(at.rooms.open_chunk(second))
    await until_waiting(waiting)
    at.drives.limit = 120
    async with asyncio.timeout(30):
        assert await waiting is not None
    assert at.drives.reserved[upload_id] == 120


async def test_closing_a_chunk_without_room_is_a_no_op(at: Place) -> None:
    upload_id = (await at.begin()).upload_id
    offer = at.driver.offer(upload_id, 0, 60)
    room = await at.rooms.open_chunk(offer)
    assert room is None
    at.rooms.close_chunk(room, offer)
    assert at.drives.calls == 0


# ------------------------------------------------------------ declared before the first quota


async def test_duplicate_needs_no_room_under_a_later_quota(at: Place) -> None:
    """A declared upload that is larger than the quota: what was received is acknowledged."""
    upload_id = (await at.begin(expected_size=500)).upload_id
    await at.send(upload_id, 0, 60)
    at.drives.limit = 100
    at.clock.advance(MINUTE + 1)
    await at.send(upload_id, 0, 60)
    assert at.drives.reserved.total() <= at.drives.limit


async def test_older_declared_upload_takes_what_room_there_is(at: Place) -> None:
    upload_id = (await at.begin(expected_size=500)).upload_id
    await at.send(upload_id, 0, 60)
    at.drives.limit = 100
    at.clock.advance(MINUTE + 1)
    await at.send(upload_id, 1, 40)
    with pytest.raises(ResourceExhausted) as refused:
        await at.send(upload_id, 2, 1)
    assert refused.value.reason == QUOTA_EXCEEDED
    at.drives.limit = 500
    at.clock.advance(MINUTE + 1)
    await at.send(upload_id, 2, 1)
    assert at.drives.reserved[upload_id] == 500, "no more than it declares"


async def test_completing_upload_reserves_nothing(at: Place) -> None:
    """A late duplicate would leave a reservation that nothing takes away after the commit."""
    at.drives.limit = 100
    upload_id = (await at.begin(expected_size=60)).upload_id
    await at.send(upload_id, 0, 60)
    await at.driver.complete(upload_id, 1)
    await at.drives.release("acme", "photos", upload_id)  # as the commit does
    assert await at.another_process().open_chunk(at.driver.offer(upload_id, 0, 60)) is None
    assert at.drives.reserved.total() == 0


async def test_chunks_pass_while_the_drive_is_unknown(at: Place) -> None:
    """The commit decides; the drive is asked for again soon."""
    at.drives.limit = 100
    upload_id = (await at.begin()).upload_id
    at.drives.failure = Unavailable("DRIVES_UNAVAILABLE", "Not now.")
    rooms = at.another_process()
    assert await rooms.open_chunk(at.driver.offer(upload_id, 0, 60)) is None
    at.drives.failure = None
    at.clock.advance(11.0)
    assert await rooms.open_chunk(at.driver.offer(upload_id, 0, 60)) is not None
