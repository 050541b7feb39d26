"""Tests of inline completion by the worker that stored a single PUT (rules 18, 19).

The queue remains the fallback whenever inline completion fails.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

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
from support.roles import World, pieces

SMALL = pieces(700, 100)
CATALOGUE_AWAY = Unavailable("CATALOGUE_UNAVAILABLE", "The database is unavailable.")


def both_roles(world: World) -> QueueWorker:
    """Return a part worker of a process that has the role `completer` too."""
    return QueueWorker(world.deps, PartStorer(world.deps, Completer(world.deps)), "parts-0")


async def test_part_worker_completes_a_single_put_inline(world: World) -> None:
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


async def test_multipart_object_is_completed_through_the_queue(world: World) -> None:
    upload = await world.upload(pieces(3_300, 500))
    worker = both_roles(world)
    while await worker.work_one(0):
        pass
    assert await world.status(upload) is UploadStatus.COMPLETING
    await world.settle(30)
    await world.assert_whole(upload)


async def test_upload_without_complete_call_is_not_completed(world: World) -> None:
    upload = await world.begin(SMALL)
    for number in range(len(SMALL)):
        await world.send(upload, number)
    while await both_roles(world).work_one(0):
        pass
    assert await world.status(upload) is UploadStatus.UPLOADING
    await world.complete(upload)
    await world.settle(30)
    await world.assert_whole(upload)


async def test_unavailable_catalogue_keeps_the_stored_part(
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


async def test_cancelled_worker_hands_completion_over_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await world.upload(SMALL)
    reached = asyncio.Event()
    with monkeypatch.context() as patch:

        async def hang(_commit: object) -> None:
            reached.set()
            await asyncio.Event().wait()

        patch.setattr(world.catalogue, "commit_node", hang)
        working = asyncio.create_task(both_roles(world).work_one(0))
        await reached.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
    assert await world.completion_worker.work_one(0)
    assert await world.status(upload) is UploadStatus.COMPLETED
    await world.settle(30)
    await world.assert_whole(upload)


async def test_fresh_put_of_other_bytes_is_not_trusted(world: World) -> None:
    """The ledger accepted other bytes, so the store is asked which object it holds."""
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


async def test_store_without_checksums_is_read_back(
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
async def test_crash_during_inline_completion_is_recovered(world: World, point: CrashPoint) -> None:
    upload = await world.upload(SMALL)
    with crash_at(point):
        await both_roles(world).work_one(0)
    world.boot()
    await world.settle(120)
    await world.assert_whole(upload)
    assert (await world.orphans()).none()


async def test_chunks_of_a_part_are_listed_once(
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
