"""Tests of the sweeper's accounts: reservations of quotas, and usage."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from sluice_core.errors import Unavailable
from sluice_core.ports import WorkItem
from sluice_core.ports.catalogue import DrivePolicy
from sluice_core.ports.quotas import Quota, QuotaReservation, Usage, UsageDifference
from sluice_core.uploads.model import UploadSnapshot
from sluice_repository.roles.sweeper import Sweeper
from support.roles import BUCKET, DRIVE, TENANT, World

MINUTE = 60.0
OTHER = "other"
SECONDS = 30.0
"""Upper bound of every wait, sufficient on a loaded machine."""


@pytest.fixture
async def limited(world: World) -> World:
    """Return a world with two drives and a quota of their tenant."""
    await world.catalogue.create_drive(TENANT, OTHER, BUCKET, "", DrivePolicy())
    await world.catalogue.set_quota(TENANT, "", Quota(max_bytes=1_000))
    return world


async def reserved(world: World) -> dict[tuple[str, str], int]:
    """Return the bytes of each reservation by drive and upload."""
    found = await world.catalogue.reservations_unchecked(world.clock.now + 1e6, 1_000)
    return {(one.drive, one.upload_id): one.size for one in found}


async def sweep_later(world: World, seconds: float = MINUTE + 1) -> None:
    world.clock.advance(seconds)
    await world.sweeper.sweep()


async def test_open_uploads_are_checked_in_one_write(
    limited: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then not for ten minutes: their own end releases them."""
    uploads = [await limited.begin([b"x"], path=f"{number}") for number in range(5)]
    for upload in uploads:
        await limited.catalogue.reserve(TENANT, DRIVE, upload.id, 10)
    pages: list[int] = []
    record = limited.catalogue.reservations_checked

    async def checked(reservations: Sequence[QuotaReservation], delay_seconds: float) -> None:
        pages.append(len(reservations))
        await record(reservations, delay_seconds)

    monkeypatch.setattr(limited.catalogue, "reservations_checked", checked)
    await limited.sweeper.sweep()
    assert pages == []
    for _ in range(9):
        await sweep_later(limited)
        assert pages == [5]
    for _ in range(2):
        await sweep_later(limited)
    assert pages == [5, 5]
    assert len(await reserved(limited)) == 5


async def test_reservation_in_another_drive_is_released(limited: World) -> None:
    """A caller names the upload: any open one would hold room in any drive."""
    upload = await limited.begin([b"x"])
    for drive in (DRIVE, OTHER):
        await limited.catalogue.reserve(TENANT, drive, upload.id, 10)
    await sweep_later(limited)
    assert await reserved(limited) == {(DRIVE, upload.id): 10}


async def test_reservation_shrinks_to_the_declared_size(limited: World) -> None:
    """Two calls with one request id and different sizes both reserved; one opened the upload."""
    upload = await limited.begin([b"x" * 10], expected_size=10)
    unknown = await limited.begin([b"x" * 10], path="b")
    for one, size in ((upload, 10), (upload, 900), (unknown, 50)):
        await limited.catalogue.reserve(TENANT, DRIVE, one.id, size)
    await sweep_later(limited)
    assert await reserved(limited) == {(DRIVE, upload.id): 10, (DRIVE, unknown.id): 50}


async def test_reservation_of_a_deleted_drive_is_released(limited: World) -> None:
    upload = await limited.begin([b"x"], drive=OTHER)
    await limited.catalogue.reserve(TENANT, OTHER, upload.id, 10)
    await limited.catalogue.delete_drive(TENANT, OTHER)
    await sweep_later(limited)
    assert await reserved(limited) == {}


async def test_unreadable_upload_keeps_its_reservation(
    limited: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does not keep others from being released."""
    monkeypatch.setattr("sluice_repository.roles.sweeper.PAGE", 2)
    uploads = [await limited.begin([b"x"], path=f"{number}") for number in range(4)]
    for upload in uploads:
        await limited.catalogue.reserve(TENANT, DRIVE, upload.id, 10)
        limited.clock.advance(1.0)
    get = limited.deps.ledger.get

    async def broken(upload_id: str) -> UploadSnapshot:
        if upload_id == uploads[0].id:
            raise Unavailable("REDIS_UNAVAILABLE", "The ledger does not answer; try again.")
        return await get(upload_id)

    for upload in uploads[1:]:
        await limited.deps.ledger.abort(upload.id)
    monkeypatch.setattr(limited.deps.ledger, "get", broken)
    monkeypatch.setattr(limited.deps.ledger, "cleanups_due", _nothing)
    await sweep_later(limited)
    assert await reserved(limited) == {(DRIVE, uploads[0].id): 10}


async def _nothing(_limit: int, _offset: int = 0) -> Sequence[UploadSnapshot]:
    return []


async def test_clean_up_after_completion_releases_nothing(
    limited: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit has: another transaction for each upload would be in vain."""
    released: list[str] = []
    release = limited.catalogue.release

    async def counted(tenant: str, upload_id: str, drive: str = "") -> None:
        released.append(upload_id)
        await release(tenant, upload_id, drive)

    monkeypatch.setattr(limited.catalogue, "release", counted)
    upload, aborted = [await limited.begin([b"x"], path=path) for path in "ab"]
    for one in (upload, aborted):
        await limited.catalogue.reserve(TENANT, DRIVE, one.id, 1)
    await limited.deps.ledger.abort(aborted.id)
    await limited.send(upload, 0)
    await limited.complete(upload)
    await limited.settle(30.0)
    assert released == [aborted.id]
    assert await reserved(limited) == {}


async def test_failing_reconciliation_spares_other_drives(
    limited: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the sum over one large drive exceeds the time limit."""
    done: list[int] = []
    reconcile = limited.catalogue.reconcile_usage

    async def failing(drive_id: int) -> UsageDifference | None:
        done.append(drive_id)
        if len(done) == 1:
            raise Unavailable("CATALOGUE_UNAVAILABLE", "The database does not answer; try again.")
        return await reconcile(drive_id)

    monkeypatch.setattr(limited.catalogue, "reconcile_usage", failing)
    await limited.sweeper.sweep()
    assert len(set(done)) == 2
    assert limited.counted("sluice_sweeps_total", kind="reconciled") == 1


@pytest.mark.rule(15)
@pytest.mark.parametrize("slow", ["reconcile_usage", "reservations_unchecked"])
async def test_slow_accounts_delay_no_recovery(
    limited: World, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    """Hints are issued again while a sum over nodes, or the list of open uploads, takes long."""
    stop, began, passes = asyncio.Event(), asyncio.Event(), 0
    enough = asyncio.Event()
    ready_work = limited.deps.ledger.ready_work

    async def wait(*_: object) -> Sequence[QuotaReservation]:
        began.set()
        await stop.wait()
        return []

    async def counted(limit: int, offset: int = 0) -> Sequence[WorkItem]:
        nonlocal passes
        passes += began.is_set()
        if passes >= 3:
            enough.set()
        return await ready_work(limit, offset)

    monkeypatch.setattr(limited.catalogue, slow, wait)
    monkeypatch.setattr(limited.deps.ledger, "ready_work", counted)
    options = replace(limited.deps.options, sweep_interval_seconds=0.01)
    async with asyncio.timeout(SECONDS):
        running = asyncio.create_task(Sweeper(replace(limited.deps, options=options)).run(stop))
        await enough.wait()
        stop.set()
        await running


async def test_usage_is_unchanged_by_sweeps(limited: World) -> None:
    await limited.upload([b"x" * 10])
    await limited.work()
    for _ in range(3):
        await sweep_later(limited, 3_601.0)
    _, usage = await limited.catalogue.get_quota(TENANT, "")
    assert usage == Usage(bytes=10, nodes=1)
