"""The sweeper of photos: lost events, photos that never arrive or arrive late, bad items."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from structlog.testing import capture_logs

from sluice_core.errors import DataLoss, InvalidArgument, Unavailable
from sluice_core.photos.model import Photo
from sluice_core.photos.states import NOT_ARRIVED, PhotoStatus, Reopening
from sluice_core.ports.object_store import ObjectInfo
from sluice_core.uploads.model import ObjectRef
from sluice_gateway.projection.sweeper import DRIVE_NOT_FOUND, PhotoSweeper, SweepOptions
from support.commits import DRIVE, TENANT
from support.photo_jobs import (
    ANN,
    change_photo,
    commit_object,
    create_photo,
    process_object,
)
from support.photo_sweeps import NOW, SweptRoom
from support.processing_results import failed
from support.projection import befall
from support.waiting import until


async def test_photo_that_never_arrives_fails_with_a_reason(room: SweptRoom) -> None:
    photo = await create_photo(room.stage.catalogue)
    await room.sweeper(SweepOptions()).sweep()
    assert (await room.stage.photo(photo)).status is PhotoStatus.QUEUED, "it has a day"
    await room.sweeper().sweep()
    now = await room.stage.photo(photo)
    assert (now.status, now.reason) == (PhotoStatus.FAILED, NOT_ARRIVED)
    heard = await room.stage.heard(photo.photo_id)
    assert heard is not None
    assert (heard.status, heard.reason) == ("FAILED", NOT_ARRIVED)


async def test_overlooked_object_is_notified_instead(room: SweptRoom) -> None:
    """Its notification was lost: the photo did arrive."""
    photo = await create_photo(room.stage.catalogue)
    await room.put(photo)
    await room.sweeper().sweep()
    assert room.created == [photo.object]
    assert (await room.stage.photo(photo)).status is PhotoStatus.QUEUED


async def test_only_what_was_mended_is_counted(room: SweptRoom) -> None:
    """The photo ends between the sweeper's read and its change, which is late then."""
    catalogue = room.stage.catalogue
    photo = await create_photo(catalogue)
    catalogue.open_photos = AsyncMock(return_value=[photo])  # type: ignore[method-assign]
    await change_photo(catalogue, photo, PhotoStatus.CANCELLED)
    await room.sweeper().sweep()
    swept = room.stage.metrics.registry.get_sample_value
    assert swept("sluice_gateway_swept_total", {"kind": "expired"}) == 0
    assert swept("photo_failed_total", {"reason": NOT_ARRIVED}) is None


async def test_object_that_is_refused_ends_its_photo(room: SweptRoom) -> None:
    """Otherwise its notification would be refused in each sweep, for ever."""
    photo = await create_photo(room.stage.catalogue)
    await room.put(photo)
    room.refusal = Unavailable("STORE_UNAVAILABLE", "Try again.")
    await room.sweeper().sweep()
    assert (await room.stage.photo(photo)).status is PhotoStatus.QUEUED
    room.refusal = DataLoss("CHECKSUM_MISMATCH", "The object is damaged.")
    await room.sweeper().sweep()
    now = await room.stage.photo(photo)
    assert (now.status, now.reason) == (PhotoStatus.FAILED, "CHECKSUM_MISMATCH")


async def test_photo_of_a_deleted_drive_fails(room: SweptRoom) -> None:
    """Its object becomes no node: it is removed."""
    catalogue = room.stage.catalogue
    photo = await create_photo(catalogue)
    await room.put(photo)
    await catalogue.delete_drive(TENANT, DRIVE)
    await room.sweeper().sweep()
    now = await room.stage.photo(photo)
    assert (now.status, now.reason) == (PhotoStatus.FAILED, DRIVE_NOT_FOUND)
    due = await catalogue.deletions_due(await catalogue.now() + 60, 10)
    assert [deletion.object for deletion in due] == [photo.object]


async def test_url_that_is_renewed_during_a_sweep_counts(
    room: SweptRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweeper has read the photo and found no object; it must not let it fail."""
    catalogue = room.stage.catalogue
    photo, other = await create_photo(catalogue), await create_photo(catalogue)
    head = room.store.head

    async def renew_and_head(ref: ObjectRef) -> ObjectInfo | None:
        if ref == photo.object:
            await catalogue.keep_awaiting(photo.photo_id, photo.attempt)
        return await head(ref)

    monkeypatch.setattr(room.store, "head", renew_and_head)
    await room.sweeper(replace(NOW, arrival_seconds=0.0)).sweep()
    assert (await room.stage.photo(photo)).status is PhotoStatus.QUEUED
    assert (await room.stage.photo(other)).status is PhotoStatus.FAILED


@pytest.mark.parametrize("is_heard", [True, False])
@pytest.mark.parametrize("fate", ["processed", "failed", "stored", "deleted"])
async def test_photo_that_arrives_after_its_end_goes_on(
    room: SweptRoom, fate: str, *, is_heard: bool
) -> None:
    """By its events, and without them; also when the processor had seen it before."""
    photo = await create_photo(room.stage.catalogue)
    await room.sweeper().sweep()
    assert (await room.stage.photo(photo)).reason == NOT_ARRIVED
    await befall(room.stage, photo, fate)
    if is_heard:
        await room.stage.project()
    else:
        await room.sweeper(SweepOptions()).sweep()
    now = await room.stage.photo(photo)
    expected = {
        "processed": (PhotoStatus.COMPLETED, "", 2),
        "failed": (PhotoStatus.FAILED, failed().reason, 2),
        "stored": (PhotoStatus.PROCESSING, "", 2),
        "deleted": (PhotoStatus.FAILED, NOT_ARRIVED, 1),
    }[fate]
    assert (now.status, now.reason, now.attempt) == expected
    heard = await room.stage.heard(photo.photo_id)
    assert heard is not None
    assert (heard.status, heard.version) == (now.status.value, now.version)


async def test_ended_photos_are_compared_with_their_nodes(room: SweptRoom) -> None:
    """Their events were lost: a node came to a cancelled photo, and went from a whole one."""
    catalogue = room.stage.catalogue
    cancelled, deleted, lost, whole = [await create_photo(catalogue) for _ in range(4)]
    await change_photo(catalogue, cancelled, PhotoStatus.CANCELLED)
    await catalogue.delete_photo(ANN, deleted.photo_id)
    for photo in (cancelled, deleted):
        await commit_object(catalogue, photo)
    for photo in (lost, whole):
        await process_object(catalogue, photo)
        await change_photo(catalogue, photo, PhotoStatus.COMPLETED)
    await catalogue.delete_node(TENANT, lost.node_id)
    await room.sweeper(SweepOptions()).sweep()
    assert not await room.stage.is_live(cancelled)
    assert not await room.stage.is_live(deleted)
    assert (await room.stage.photo(lost)).deleted_at is not None
    assert await room.stage.is_live(whole)
    assert (await room.stage.photo(whole)).deleted_at is None
    assert not (await catalogue.contradicted_photos(100)).photos


@pytest.mark.parametrize("fate", ["processed", "failed", "deleted", "stored"])
async def test_lost_events_are_made_up_for(room: SweptRoom, fate: str) -> None:
    photo = await create_photo(room.stage.catalogue)
    await change_photo(room.stage.catalogue, photo, PhotoStatus.PROCESSING)
    await befall(room.stage, photo, fate)
    await room.sweeper().sweep()
    expected = {"processed": "COMPLETED", "stored": "PROCESSING"}.get(fate, "FAILED")
    assert (await room.stage.photo(photo)).status == expected


async def test_object_that_fails_again_has_no_event(room: SweptRoom) -> None:
    """The catalogue keeps one result of a content, so its repeat is no change."""
    photo = await create_photo(room.stage.catalogue)
    await befall(room.stage, photo, "failed")
    await room.stage.project()
    await room.stage.catalogue.reopen_photo(ANN, photo.photo_id, Reopening.REPROCESS)
    await room.stage.record(photo, failed())
    await room.sweeper(SweepOptions(quiet_seconds=-60.0)).sweep()
    assert (await room.stage.photo(photo)).status is PhotoStatus.PROCESSING, "it may be under way"
    await room.sweeper().sweep()
    assert (await room.stage.photo(photo)).status is PhotoStatus.FAILED


@pytest.mark.parametrize("error", [RuntimeError("defect"), InvalidArgument("BAD_KEY", "No key.")])
@pytest.mark.parametrize("kind", ["reconciled", "ended", "expired", "multiparts"])
async def test_bad_item_keeps_no_other_from_its_turn(
    room: SweptRoom, monkeypatch: pytest.MonkeyPatch, kind: str, error: Exception
) -> None:
    """Of three photos that need it, the call about the first one always fails."""
    catalogue = room.stage.catalogue
    photos = [await create_photo(catalogue) for _ in range(3)]
    for photo in photos:
        match kind:
            case "reconciled":
                await process_object(catalogue, photo)
            case "ended":
                await change_photo(catalogue, photo, PhotoStatus.CANCELLED)
                await commit_object(catalogue, photo)
            case "multiparts":
                await room.open_multipart(photo)
                await change_photo(catalogue, photo, PhotoStatus.CANCELLED)
            case _:
                pass
    bad = photos[0]
    port, name = {
        "reconciled": (catalogue, "change_photos"),
        "ended": (catalogue, "delete_node"),
        "expired": (room.store, "head"),
        "multiparts": (room.store, "open_multiparts"),
    }[kind]
    method = getattr(port, name)

    async def call(*arguments: Any, **named: Any) -> Any:
        if any(each in repr(arguments) for each in (bad.node_id, bad.photo_id)):
            raise error
        return await method(*arguments, **named)

    monkeypatch.setattr(port, name, call)
    # The console draws tracebacks with every variable, which takes seconds.
    with capture_logs() as logs:
        await room.sweeper().sweep()
    failures = [entry for entry in logs if entry["event"] == "sweep.item_failed"]
    assert bad.node_id in repr([entry for entry in failures if entry["kind"] == kind])

    async def is_mended(photo: Photo) -> bool:
        match kind:
            case "reconciled":
                return (await room.stage.photo(photo)).status is PhotoStatus.COMPLETED
            case "ended":
                return not await room.stage.is_live(photo)
            case "expired":
                return (await room.stage.photo(photo)).status is PhotoStatus.FAILED
            case _:
                monkeypatch.setattr(port, name, method)
                return not await room.multiparts(photo)

    assert [await is_mended(photo) for photo in photos] == [False, True, True]


async def test_one_replica_sweeps_until_it_stops(room: SweptRoom) -> None:
    swept: list[int] = []

    class Counted(PhotoSweeper):
        async def sweep(self) -> None:
            swept.append(id(self))

    options = SweepOptions(interval_seconds=0.01)
    sweepers = {id(each): each for each in (room.sweeper(options, Counted) for _ in range(2))}
    stops = {key: asyncio.Event() for key in sweepers}
    async with asyncio.TaskGroup() as group:
        for key, sweeper in sweepers.items():
            group.create_task(sweeper.run(stops[key]))
        await until(lambda: len(swept) >= 5, what="sweeps")
        assert len(set(swept)) == 1
        first = swept[0]
        stops[first].set()
        await until(lambda: swept[-1] != first, what="sweeps of the other replica")
        for stop in stops.values():
            stop.set()


async def test_store_that_is_down_lets_no_photo_fail(
    room: SweptRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the object has arrived is not known then; the other kinds are swept."""
    catalogue = room.stage.catalogue
    missing, stored = await create_photo(catalogue), await create_photo(catalogue)
    await commit_object(catalogue, stored)

    async def head(_: ObjectRef) -> None:
        raise Unavailable("STORE_UNAVAILABLE", "Try again.")

    monkeypatch.setattr(room.store, "head", head)
    await room.sweeper().sweep()
    assert (await room.stage.photo(missing)).status is PhotoStatus.QUEUED
    assert (await room.stage.photo(stored)).status is PhotoStatus.PROCESSING
