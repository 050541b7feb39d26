"""The sweeper of photos: abandoned multiparts, and those of attempts under way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sluice_core.photos.states import PhotoStatus
from sluice_core.ports.catalogue import CommitOutcome, ObjectIntent
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.ids import direct_multipart_id, direct_upload_id
from support.commits import finished_upload
from support.photo_jobs import change_photo, create_photo
from support.photo_sweeps import MULTIPARTS, SweptRoom


async def test_multipart_of_an_ended_photo_is_aborted(room: SweptRoom) -> None:
    photo = await create_photo(room.stage.catalogue)
    await room.open_multipart(photo)
    await change_photo(room.stage.catalogue, photo, PhotoStatus.CANCELLED)
    await room.sweeper().sweep()
    assert await room.multiparts(photo) == set()
    assert await room.stage.catalogue.stale_intents(1e12, 10) == []


async def test_multipart_under_way_is_left_alone(room: SweptRoom) -> None:
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
    room: SweptRoom, monkeypatch: pytest.MonkeyPatch, moment: str
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


async def test_former_multiparts_go_after_the_adoption(room: SweptRoom) -> None:
    """A crash left the multipart of the first attempt open; the second one led to the node."""
    catalogue = room.stage.catalogue
    photo = await create_photo(catalogue)
    former = await room.open_multipart(photo)
    second = await room.retry(photo)
    await room.store.abort_multipart(photo.object, second)  # as its completion, it ends it
    commit = finished_upload(photo.path, node_id=photo.node_id)
    commit = replace(commit, upload_id=direct_upload_id(photo.node_id))
    assert await catalogue.adopt_object(commit) == CommitOutcome(created=True)
    await room.stage.project()
    assert await room.multiparts(photo) == {former}
    await room.sweeper(MULTIPARTS).sweep()
    assert await room.multiparts(photo) == set()
    assert await catalogue.stale_intents(1e12, 10) == []


async def test_multipart_that_a_crash_left_unrecorded_is_aborted(room: SweptRoom) -> None:
    photo = await create_photo(room.stage.catalogue)
    await room.store.open_multipart(photo.object, ObjectAttributes("image/jpeg"))
    upload_id = direct_multipart_id(photo.node_id, photo.attempt)
    await room.stage.catalogue.record_intent(
        ObjectIntent(upload_id, photo.owner.tenant, photo.object, "", 1.0)
    )
    await change_photo(room.stage.catalogue, photo, PhotoStatus.CANCELLED)
    await room.sweeper().sweep()
    assert await room.multiparts(photo) == set()
