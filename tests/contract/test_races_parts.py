"""Late UploadPart requests at the worst moments (rules 15 to 18)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sluice_core.errors import NotFound
from sluice_core.objects.body import BytesBody
from sluice_core.ports import WorkItem, WorkKind
from sluice_core.ports.object_store import Body, PartTag
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import ObjectRef, UploadStatus
from support.roles import PART_BYTES, TENANT, Upload, World, pieces, small_world

LEASE_IS_OVER = 20.0
CHUNKS = pieces(3 * PART_BYTES + 300, 500)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with small_world(tmp_path) as world:
        yield world


class LatePart:
    """The first `put_part`, whose bytes reach the store only when the test calls `land`.

    Its worker is held after it sent the bytes of part 1. The lease ends, and another process
    stores and records the part. The object store has no fences and accepts the late bytes.
    """

    def __init__(self, world: World) -> None:
        self._put_part = world.objects.put_part
        self._sent = asyncio.Event()
        self._arrives = asyncio.Event()
        self.tag: PartTag | None = None
        world.objects.put_part = self._late  # type: ignore[method-assign]
        self._world = world

    async def _late(self, ref: ObjectRef, multipart_id: str, number: int, body: Body) -> PartTag:
        self._world.objects.put_part = self._put_part  # type: ignore[method-assign]
        sent = b"".join([block async for block in body.blocks()])
        self._sent.set()
        await self._arrives.wait()
        self.tag = await self._put_part(ref, multipart_id, number, BytesBody(sent))
        return self.tag

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[asyncio.Task[bool]]:
        """Run the late worker until its bytes are sent; await it at the end."""
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            task = group.create_task(self._world.part_worker.work_one(0))
            await self._sent.wait()
            yield task
            self._arrives.set()

    async def lands(self, task: asyncio.Task[bool]) -> None:
        self._arrives.set()
        await asyncio.wait([task])


async def another_process_stores_everything(world: World, upload: Upload) -> None:
    world.clock.advance(LEASE_IS_OVER)
    world.boot()
    for number in range(1, 5):
        await world.deps.queue.put(WorkItem(WorkKind.PART, upload.id, TENANT, number))
    while await world.part_worker.work_one(0):
        pass
    snapshot = await world.snapshot(upload)
    assert (snapshot.status, snapshot.stored_parts) == (UploadStatus.COMPLETING, 4)


async def etag_of_part_1(world: World, upload: Upload) -> str:
    return (await world.deps.ledger.stored_parts(upload.id, 0, 1))[0].etag


async def complete(world: World, upload: Upload) -> None:
    """Run one completer; fail the test unless the upload becomes a complete node."""
    await world.deps.queue.put(WorkItem(WorkKind.COMPLETION, upload.id, TENANT))
    await world.completion_worker.work_one(0)
    await world.settle(30)
    await world.assert_whole(upload)
    assert (await world.orphans()).none()


@pytest.mark.rule(15, 16)
async def test_late_part_after_its_record_leaves_the_ledger_unchanged(
    world: World,
) -> None:
    """It changes the object store."""
    upload = await world.upload(CHUNKS)
    late = LatePart(world)
    async with late.worker() as worker:
        await another_process_stores_everything(world, upload)
        recorded = await etag_of_part_1(world, upload)
        await late.lands(worker)
        assert await etag_of_part_1(world, upload) == recorded
        assert late.tag is not None
        multipart_id = (await world.snapshot(upload)).multipart_id
        in_store = await world.objects.list_parts(upload.new.object, multipart_id)
        assert in_store[0].etag == late.tag.etag
        assert world.outcomes()["lost"] == 1  # it was fenced when it came to record
    await complete(world, upload)
    assert world.outcomes("sluice_completions")["completed"] == 1


@pytest.mark.rule(16, 18)
@pytest.mark.parametrize("call", ["complete_multipart", "list_parts"])
async def test_late_part_during_completion_is_reconciled(world: World, call: str) -> None:
    """It lands before the store checks the parts, or between its rejection and the new list."""
    upload = await world.upload(CHUNKS)
    late = LatePart(world)
    async with late.worker() as worker:
        await another_process_stores_everything(world, upload)
        if call == "list_parts":  # the part was replaced before, so that there is a list at all
            multipart_id = (await world.snapshot(upload)).multipart_id
            first = BytesBody(upload.content[:PART_BYTES])
            await world.objects.put_part(upload.new.object, multipart_id, 1, first)

        async def it_lands() -> None:
            del world.objects.on_call[call]
            await late.lands(worker)

        world.objects.on_call[call] = it_lands
        await complete(world, upload)
    assert world.objects.calls.count("list_parts") == 1
    assert world.outcomes("sluice_completions")["completed"] == 1


@pytest.mark.rule(16)
async def test_late_part_between_list_and_retry_is_listed_again(world: World) -> None:
    upload = await world.upload(CHUNKS)
    late = LatePart(world)
    async with late.worker() as worker:
        await another_process_stores_everything(world, upload)
        multipart_id = (await world.snapshot(upload)).multipart_id
        first = BytesBody(upload.content[:PART_BYTES])
        await world.objects.put_part(upload.new.object, multipart_id, 1, first)
        attempts = 0

        async def the_second_attempt_comes_too_late() -> None:
            nonlocal attempts
            attempts += 1
            if attempts == 2:
                await late.lands(worker)

        world.objects.on_call["complete_multipart"] = the_second_attempt_comes_too_late
        await complete(world, upload)
    assert (attempts, world.objects.calls.count("list_parts")) == (3, 2)


@pytest.mark.rule(16, 25)
async def test_late_part_after_completion_finds_no_multipart(world: World) -> None:
    upload = await world.upload(CHUNKS)
    late = LatePart(world)
    async with late.worker() as worker:
        await another_process_stores_everything(world, upload)
        await complete(world, upload)
        node = await world.node(upload)
        await late.lands(worker)
        assert late.tag is None
    assert await world.node(upload) == node
    assert await world.stored_bytes(upload) == upload.content
    assert (await world.orphans()).none()


@pytest.mark.rule(8, 16)
async def test_late_part_of_other_bytes_reopens_the_part(
    world: World,
) -> None:
    """The staged bytes were dropped when the part was recorded: its chunks become missing. No
    wrong object is made."""
    upload = await world.upload(CHUNKS)
    while await world.part_worker.work_one(0):
        pass
    multipart_id = (await world.snapshot(upload)).multipart_id

    async def other_bytes_land() -> None:
        del world.objects.on_call["complete_multipart"]
        other = BytesBody(bytes(PART_BYTES))
        await world.objects.put_part(upload.new.object, multipart_id, 1, other)

    world.objects.on_call["complete_multipart"] = other_bytes_land
    await world.completion_worker.work_one(0)
    assert await world.status(upload) is UploadStatus.UPLOADING
    with pytest.raises(NotFound):
        await world.node(upload)
    assert await world.resend_missing(upload) == [0, 1]
    await world.settle(60)
    node = await world.assert_whole(upload)
    assert node is not None
    assert node.crc32c == crc32c(upload.content)
    assert (await world.orphans()).none()


@pytest.mark.rule(17)
async def test_late_worker_drops_no_chunks_of_a_recorded_part(
    world: World,
) -> None:
    """The late worker is fenced and drops nothing: the chunks may have been sent again."""
    upload = await world.upload(CHUNKS)
    late = LatePart(world)
    dropped: list[str] = []
    drop = world.deps.chunks.drop

    async def watched(upload_id: str, tokens: list[str]) -> None:
        dropped.extend(tokens)
        await drop(upload_id, tokens)

    async with late.worker() as worker:
        await another_process_stores_everything(world, upload)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(world.deps.chunks, "drop", watched)
            await late.lands(worker)
        assert dropped == []
    await complete(world, upload)
