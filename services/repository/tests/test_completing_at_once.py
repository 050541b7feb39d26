"""An upload that is one object is completed by the worker that has put it (rules 18 and 19).

Whatever happens on that way, the ordinary one through the queue is still there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_common.process.crash_points import CrashPoint
from sluice_core.errors import Unavailable
from sluice_core.ports import Delivery, StoredPartRecord, WorkItem, WorkKind
from sluice_core.ports.object_store import ObjectInfo
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import UploadStatus
from sluice_repository.roles.completer import Completer, FreshPut
from sluice_repository.roles.parts import PartStorer
from sluice_repository.work.queue_worker import QueueWorker
from support.crashes import crash_at
from support.roles import World, pieces, small_world

SMALL = pieces(700, 100)
CATALOGUE_AWAY = Unavailable("CATALOGUE_UNAVAILABLE", "The database is away for a moment.")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with small_world(tmp_path) as world:
        yield world


def both_roles(world: World) -> QueueWorker:
    """A part worker of a process that is a completer as well."""
    return QueueWorker(world.deps, PartStorer(world.deps, Completer(world.deps)), "parts-0")


async def test_one_turn_of_one_worker_makes_the_node(world: World) -> None:
    upload = await world.upload(SMALL)
    assert await both_roles(world).work_one(0)
    assert await world.status(upload) is UploadStatus.COMPLETED
    assert world.outcomes("sluice_completions") == {"completed": 1}
    assert "head" not in world.objects.calls
    assert not await world.completion_worker.work_one(0)
    await world.settle(30)
    node = await world.assert_whole(upload)
    assert node is not None
    assert node.sha256 is not None
    assert (await world.orphans()).none()


async def test_an_object_in_parts_takes_its_turn_in_the_queue(world: World) -> None:
    upload = await world.upload(pieces(3_300, 500))
    worker = both_roles(world)
    while await worker.work_one(0):
        pass
    assert await world.status(upload) is UploadStatus.COMPLETING
    await world.settle(30)
    await world.assert_whole(upload)


async def test_an_upload_that_nobody_completes_yet_is_left_alone(world: World) -> None:
    upload = await world.begin(SMALL)
    for number in range(len(SMALL)):
        await world.send(upload, number)
    while await both_roles(world).work_one(0):
        pass
    assert await world.status(upload) is UploadStatus.UPLOADING
    await world.complete(upload)
    await world.settle(30)
    await world.assert_whole(upload)


async def test_a_catalogue_that_is_away_costs_a_turn_and_not_the_part(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await world.upload(SMALL)
    with monkeypatch.context() as patch:

        async def away(_commit: object) -> None:
            raise CATALOGUE_AWAY

        patch.setattr(world.catalogue, "commit_node", away)
        assert await both_roles(world).work_one(0)
    assert world.outcomes() == {"stored": 1}
    assert world.outcomes("sluice_completions") == {}
    assert await world.completion_worker.work_one(0)
    assert world.outcomes("sluice_completions") == {"completed": 1}
    await world.settle(30)
    await world.assert_whole(upload)


async def test_a_worker_that_is_stopped_leaves_the_completion_to_another_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await world.upload(SMALL)
    reached = asyncio.Event()
    with monkeypatch.context() as patch:

        async def for_ever(_commit: object) -> None:
            reached.set()
            await asyncio.Event().wait()

        patch.setattr(world.catalogue, "commit_node", for_ever)
        working = asyncio.create_task(both_roles(world).work_one(0))
        await reached.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
    assert await world.completion_worker.work_one(0)
    assert await world.status(upload) is UploadStatus.COMPLETED
    await world.settle(30)
    await world.assert_whole(upload)


async def test_what_the_store_confirmed_is_not_believed_for_other_bytes(world: World) -> None:
    """The ledger has other bytes as accepted: the store is asked what it holds."""
    upload = await world.upload(SMALL)
    while await world.part_worker.work_one(0):
        pass
    content = upload.content[:-1] + b"!"
    record = StoredPartRecord(1, "etag", len(content), crc32c(content))
    info = ObjectInfo(upload.new.object, len(content), "etag", crc32c(content))
    item = WorkItem(WorkKind.PART, upload.id, upload.new.tenant, 1)
    outcome = await world.completer.handle_put(Delivery(item, "1", 1), FreshPut(record, info))
    assert outcome == "completed"
    assert "head" in world.objects.calls
    await world.settle(30)
    await world.assert_whole(upload)


async def test_a_store_without_checksums_is_read_back_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await world.upload(SMALL)
    put = world.objects.put

    async def silent(*arguments: object) -> ObjectInfo:
        return replace(await put(*arguments), crc32c=None)  # type: ignore[arg-type]

    monkeypatch.setattr(world.objects, "put", silent)
    assert await both_roles(world).work_one(0)
    assert "read" in world.objects.calls
    await world.settle(30)
    await world.assert_whole(upload)


@pytest.mark.rule(16, 18, 19)
@pytest.mark.parametrize(
    "point",
    [
        CrashPoint.AFTER_UPLOAD_PART,
        CrashPoint.AFTER_RECORD_PART,
        CrashPoint.AFTER_CLAIM_COMPLETION,
        CrashPoint.AFTER_CATALOGUE_COMMIT,
        CrashPoint.AFTER_FINISH,
    ],
)
async def test_a_process_that_dies_on_the_way_is_taken_over(
    world: World, point: CrashPoint
) -> None:
    upload = await world.upload(SMALL)
    with crash_at(point):
        await both_roles(world).work_one(0)
    world.boot()
    await world.settle(120)
    await world.assert_whole(upload)
    assert (await world.orphans()).none()


async def test_the_chunks_of_a_part_are_asked_for_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    part_chunks = world.deps.ledger.part_chunks

    async def counted(*arguments: object) -> object:
        asked.append(arguments)
        return await part_chunks(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(world.deps.ledger, "part_chunks", counted)
    upload = await world.upload(SMALL)
    assert await both_roles(world).work_one(0)
    assert len(asked) == 1
    await world.settle(30)
    await world.assert_whole(upload)
