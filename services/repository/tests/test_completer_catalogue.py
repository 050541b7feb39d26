"""Tests of the completer when the catalogue is down, refuses or is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice_core.errors import NotFound, Unavailable
from sluice_core.uploads.model import UploadStatus
from support.roles import DRIVE, TENANT, World, pieces, small_world

CHUNKS = pieces(3_300, 500)


@pytest.mark.rule(18)
async def test_unavailable_catalogue_only_delays_completion(world: World) -> None:
    await world.upload([b"first"], path="first.bin")
    failures = [Unavailable("CATALOGUE_UNAVAILABLE", "The database is away.")] * 4
    commit = world.catalogue.commit_node

    async def away(*args: object) -> object:
        if failures:
            raise failures.pop()
        return await commit(*args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.catalogue, "commit_node", away)
        upload = await world.upload(CHUNKS)
        await world.settle(120)
    await world.assert_whole(upload)
    assert world.outcomes("sluice_completions") == {"retried": 4, "completed": 2}


@pytest.mark.rule(19, 26)
async def test_later_commit_to_a_path_wins_and_old_object_is_deleted(
    world: World,
) -> None:
    first = await world.upload([b"first"], path="same.bin")
    await world.work()
    second = await world.upload([b"second"], path="same.bin")
    await world.settle(30)
    await world.assert_whole(second)
    assert await world.status(first) is UploadStatus.COMPLETED
    with pytest.raises(NotFound):
        await world.node(first)
    # The object is kept for the longest lifetime of a download URL.
    assert await world.objects.head(first.new.object) is not None
    world.clock.advance(8 * 24 * 3600)
    await world.settle(30)
    assert await world.objects.head(first.new.object) is None
    assert world.publisher.types(first.new.node_id) == [
        "UploadInitiated",
        "UploadCompleted",
        "NodeDeleted",
    ]


@pytest.mark.rule(19)
async def test_if_absent_fails_second_upload_and_removes_its_object(world: World) -> None:
    first = await world.upload([b"first"], path="same.bin", if_absent=True)
    second = await world.upload([b"second"], path="same.bin", if_absent=True)
    await world.settle(30)
    by_status = {await world.status(u): u for u in (first, second)}
    winner = by_status[UploadStatus.COMPLETED]
    loser = by_status[UploadStatus.FAILED]
    assert (await world.snapshot(loser)).failure_reason == "PATH_EXISTS"
    await world.assert_whole(winner)
    assert await world.objects.head(loser.new.object) is None
    assert (await world.orphans()).none()


@pytest.mark.rule(22)
async def test_ledger_emits_completed_without_a_catalogue(
    tmp_path: Path,
) -> None:
    async with small_world(tmp_path, with_catalogue=False) as world:
        upload = await world.upload(CHUNKS)
        await world.settle(30)
        await world.assert_whole(upload)
        assert world.publisher.types(upload.new.node_id) == ["UploadInitiated", "UploadCompleted"]
        assert (await world.orphans()).none()


@pytest.mark.rule(19, 26)
@pytest.mark.parametrize("chunks", [CHUNKS, [b"small"]], ids=["multipart", "single put"])
async def test_upload_to_a_deleted_drive_fails_without_leftovers(
    world: World, chunks: list[bytes]
) -> None:
    """It was opened while an intake still had the drive in its cache."""
    before = await world.upload(chunks, path="before.bin")
    await world.settle(30)
    await world.catalogue.delete_node(TENANT, before.new.node_id)
    await world.catalogue.delete_drive(TENANT, DRIVE)
    late = await world.upload(chunks, path="late.bin")
    await world.settle(5_000, step=100)
    assert (await world.snapshot(late)).failure_reason == "DRIVE_NOT_FOUND"
    for upload in (before, late):
        assert await world.objects.head(upload.new.object) is None
    assert (await world.orphans()).none()
