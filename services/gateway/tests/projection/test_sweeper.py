"""The sweeper of photos: lost events, photos that never arrive, abandoned multiparts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sluice_backends.files.store import FileObjectStore
from sluice_backends.sql.catalogue import SqlCatalogue
from sluice_core.errors import Unavailable
from sluice_core.objects.body import BytesBody
from sluice_core.photos.model import Photo
from sluice_core.photos.states import PhotoStatus, Reopening
from sluice_core.ports.catalogue import ObjectIntent
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.ids import direct_multipart_id
from sluice_core.uploads.model import ObjectRef
from sluice_gateway.projection.announcing import Announcer
from sluice_gateway.projection.sweeper import NOT_ARRIVED, PhotoSweeper, SweepOptions
from support.commits import BUCKET
from support.photo_jobs import ANN, change_photo, commit_object, create_photo
from support.processing_results import failed
from support.projection import Stage, befall

NOW = SweepOptions(
    interval_seconds=0.0,
    arrival_seconds=-60.0,
    quiet_seconds=-60.0,
    stuck_seconds=-60.0,
    intent_seconds=-60.0,
)
"""Everything is due at once."""
MULTIPARTS = SweepOptions(intent_seconds=-60.0)
"""Multiparts are due at once; photos have time."""


@dataclass
class Room:
    """A sweeper and what it works on."""

    stage: Stage
    store: FileObjectStore
    created: list[ObjectRef] = field(default_factory=list)

    def sweeper(self, options: SweepOptions = NOW) -> PhotoSweeper:
        stage = self.stage
        return PhotoSweeper(
            stage.catalogue,
            self.store,
            stage.projector(),
            Announcer(stage.catalogue, stage.live),
            stage.metrics,
            options,
            self.object_created,
        )

    async def object_created(self, ref: ObjectRef, *, happened_at: float) -> None:
        self.created.append(ref)

    async def open_multipart(self, photo: Photo) -> str:
        """Open a multipart as the command does: first its intent."""
        attributes = ObjectAttributes("image/jpeg")
        multipart_id = await self.store.open_multipart(photo.object, attributes)
        upload_id = direct_multipart_id(photo.node_id, photo.attempt)
        intent = ObjectIntent(upload_id, photo.owner.tenant, photo.object, multipart_id, 1.0)
        await self.stage.catalogue.record_intent(intent)
        await self.stage.catalogue.set_multipart(photo.photo_id, photo.attempt, multipart_id)
        return multipart_id

    async def retry(self, photo: Photo) -> str:
        """Let the photo fail, and open the multipart of its next attempt."""
        catalogue = self.stage.catalogue
        await change_photo(catalogue, photo, PhotoStatus.FAILED, reason="GONE")
        await catalogue.reopen_photo(ANN, photo.photo_id, Reopening.RETRY)
        return await self.open_multipart(await self.stage.photo(photo))

    async def multiparts(self, photo: Photo) -> set[str]:
        return set(await self.store.open_multiparts(photo.object))


@pytest.fixture
async def room(catalogue: SqlCatalogue, tmp_path: Path) -> AsyncIterator[Room]:
    async with FileObjectStore(tmp_path / "objects", fsync=False) as store:
        await store.check(BUCKET)
        yield Room(Stage(catalogue), store)


async def test_photo_that_never_arrives_fails_with_a_reason(room: Room) -> None:
    photo = await create_photo(room.stage.catalogue)
    await room.sweeper(SweepOptions()).sweep()
    assert (await room.stage.photo(photo)).status is PhotoStatus.QUEUED, "it has a day"
    await room.sweeper().sweep()
    now = await room.stage.photo(photo)
    assert (now.status, now.reason) == (PhotoStatus.FAILED, NOT_ARRIVED)
    heard = await room.stage.heard(photo.photo_id)
    assert heard is not None
    assert (heard.status, heard.reason) == ("FAILED", NOT_ARRIVED)


async def test_overlooked_object_is_notified_instead(room: Room) -> None:
    """Its notification was lost: the photo did arrive."""
    photo = await create_photo(room.stage.catalogue)
    await room.store.put(photo.object, BytesBody(b"x" * 10), ObjectAttributes("image/jpeg"))
    await room.sweeper().sweep()
    assert room.created == [photo.object]
    assert (await room.stage.photo(photo)).status is PhotoStatus.QUEUED


@pytest.mark.parametrize("fate", ["processed", "failed", "deleted", "stored"])
async def test_lost_events_are_made_up_for(room: Room, fate: str) -> None:
    photo = await create_photo(room.stage.catalogue)
    await change_photo(room.stage.catalogue, photo, PhotoStatus.PROCESSING)
    await befall(room.stage, photo, fate)
    await room.sweeper().sweep()
    expected = {"processed": "COMPLETED", "stored": "PROCESSING"}.get(fate, "FAILED")
    assert (await room.stage.photo(photo)).status == expected


async def test_object_that_fails_again_has_no_event(room: Room) -> None:
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


async def test_multipart_of_an_ended_photo_is_aborted(room: Room) -> None:
    photo = await create_photo(room.stage.catalogue)
    await room.open_multipart(photo)
    await change_photo(room.stage.catalogue, photo, PhotoStatus.CANCELLED)
    await room.sweeper().sweep()
    assert await room.multiparts(photo) == set()
    assert await room.stage.catalogue.stale_intents(1e12, 10) == []


async def test_multipart_under_way_is_left_alone(room: Room) -> None:
    """Also when that of a former attempt of the same photo is abandoned."""
    catalogue = room.stage.catalogue
    photo = await create_photo(catalogue)
    former = await room.open_multipart(photo)
    await room.sweeper(MULTIPARTS).sweep()
    assert await room.multiparts(photo) == {former}

    present = await room.retry(photo)
    await room.sweeper(MULTIPARTS).sweep()
    assert await room.multiparts(photo) == {present}

    await change_photo(catalogue, photo, PhotoStatus.CANCELLED)
    await room.sweeper(MULTIPARTS).sweep()
    assert await room.multiparts(photo) == set()
    assert await catalogue.stale_intents(1e12, 10) == []


@pytest.mark.parametrize("moment", ["list", "read", "abort"])
async def test_retry_during_a_sweep_keeps_its_multipart(
    room: Room, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The user retries while the sweeper works on the intent of the attempt before."""
    photo = await create_photo(room.stage.catalogue)
    await room.open_multipart(photo)
    await change_photo(room.stage.catalogue, photo, PhotoStatus.FAILED, reason="GONE")
    present: list[str] = []
    port, name = {
        "list": (room.store, "open_multiparts"),
        "read": (room.stage.catalogue, "photos_of_nodes"),
        "abort": (room.store, "abort_multipart"),
    }[moment]
    method = getattr(port, name)

    async def call(*arguments: Any) -> Any:
        monkeypatch.setattr(port, name, method)
        present.append(await room.retry(photo))
        return await method(*arguments)

    monkeypatch.setattr(port, name, call)
    await room.sweeper(MULTIPARTS).sweep()
    assert present
    assert set(present) <= await room.multiparts(photo)
    await room.sweeper(MULTIPARTS).sweep()
    assert await room.multiparts(photo) == set(present)


async def test_multipart_that_a_crash_left_unrecorded_is_aborted(room: Room) -> None:
    photo = await create_photo(room.stage.catalogue)
    await room.store.open_multipart(photo.object, ObjectAttributes("image/jpeg"))
    upload_id = direct_multipart_id(photo.node_id, photo.attempt)
    await room.stage.catalogue.record_intent(
        ObjectIntent(upload_id, photo.owner.tenant, photo.object, "", 1.0)
    )
    await change_photo(room.stage.catalogue, photo, PhotoStatus.CANCELLED)
    await room.sweeper().sweep()
    assert await room.multiparts(photo) == set()


async def test_store_that_is_down_lets_no_photo_fail(
    room: Room, monkeypatch: pytest.MonkeyPatch
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
