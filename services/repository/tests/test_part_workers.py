"""Tests of the part workers: chunk order, records and concurrency."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import stamina
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_core.errors import Unavailable
from sluice_core.objects.marks import upload_mark
from sluice_core.ports import WorkItem, WorkKind
from sluice_core.ports.object_store import ObjectAttributes
from support.roles import PART_BYTES, TENANT, World, pieces, small_world


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(1, 2_500), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
    early=st.booleans(),
)
async def test_any_chunks_in_any_order_become_the_object(
    sizes: list[int], order: random.Random, early: bool
) -> None:
    data = order.randbytes(sum(sizes))
    chunks = [data[sum(sizes[:n]) : sum(sizes[: n + 1])] for n in range(len(sizes))]
    numbers = list(range(len(chunks)))
    order.shuffle(numbers)
    with TemporaryDirectory() as folder:
        async with small_world(Path(folder), with_catalogue=False) as world:
            upload = await world.begin(chunks)
            for number in numbers:
                await world.send(upload, number)
                if early:
                    await world.work()
            await world.complete(upload)
            await world.settle(30)
            await world.assert_whole(upload)
            assert (await world.orphans()).none()


@pytest.mark.parametrize("chunk_size", [100, 300, 1_000, 1_500])
async def test_declared_chunk_size_allows_parts_in_any_order(world: World, chunk_size: int) -> None:
    chunks = pieces(5_250, chunk_size)
    upload = await world.begin(chunks, chunk_size=chunk_size, expected_size=5_250)
    for number in reversed(range(len(chunks))):
        await world.send(upload, number)
        await world.work()
    await world.complete(upload)
    await world.settle(30)
    await world.assert_whole(upload)


async def test_part_of_several_chunk_pages_is_whole(world: World) -> None:
    upload = await world.upload(pieces(2_500, 1), part_bytes=10_000)
    await world.work()
    await world.settle(10)
    await world.assert_whole(upload)
    assert (await world.orphans()).none()


async def test_empty_object_is_one_empty_put(world: World) -> None:
    upload = await world.upload([b""])
    await world.settle(30)
    node = await world.assert_whole(upload)
    assert node is not None
    assert node.size == 0
    assert "open_multipart" not in world.objects.calls


@pytest.mark.rule(12, 13, 20)
async def test_object_below_one_part_is_single_put_with_sha256(world: World) -> None:
    upload = await world.upload(pieces(900, 200))
    await world.settle(30)
    node = await world.assert_whole(upload)
    assert node is not None
    assert node.sha256 is not None
    assert "open_multipart" not in world.objects.calls


@pytest.mark.rule(17)
async def test_chunks_are_dropped_only_after_part_is_recorded(world: World) -> None:
    upload = await world.begin(pieces(PART_BYTES, 250))
    for number in range(4):
        await world.send(upload, number)
    held: list[int] = []

    async def count() -> None:
        held.append(sum(len(t) for _, t in await world.deps.chunks.leftovers(-1, 100)))

    world.objects.on_call["put_part"] = count
    await world.work()
    assert held == [4]
    assert await world.deps.chunks.leftovers(-1, 100) == []
    assert (await world.snapshot(upload)).stored_chunks == 4


@pytest.mark.rule(17)
async def test_chunks_stay_while_part_cannot_be_recorded(world: World) -> None:
    upload = await world.begin(pieces(PART_BYTES, 250))
    for number in range(4):
        await world.send(upload, number)
    record_part = world.deps.ledger.record_part
    failures = [Unavailable("LEDGER_UNAVAILABLE", "The ledger is away.")] * 6

    async def away(*args: object) -> object:
        if failures:
            raise failures.pop()
        return await record_part(*args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, stamina.set_testing(True, attempts=6, cap=True):
        patch.setattr(world.deps.ledger, "record_part", away)
        await world.part_worker.work_one(0)
    assert (failures, world.objects.calls.count("put_part")) == ([], 1)
    ((_, tokens),) = await world.deps.chunks.leftovers(-1, 100)
    assert len(tokens) == 4
    await world.settle(20)
    assert await world.deps.chunks.leftovers(-1, 100) == []
    assert (await world.snapshot(upload)).stored_chunks == 4


@pytest.mark.rule(13)
async def test_intent_is_recorded_before_the_store_is_called(
    world: World,
) -> None:
    seen: list[str] = []

    async def note_intent() -> None:
        intents = await world.catalogue.stale_intents(world.clock.now + 1, 10)
        seen.append(intents[0].multipart_id if intents else "none")

    world.objects.on_call = dict.fromkeys(("open_multipart", "put_part", "put"), note_intent)
    large = await world.upload(pieces(2 * PART_BYTES, 500))
    await world.work()
    multipart_id = (await world.snapshot(large)).multipart_id
    assert seen == ["", multipart_id, multipart_id]
    seen.clear()
    await world.upload(pieces(10, 10), path="b.bin")
    await world.work()
    assert seen == [""]


@pytest.mark.parametrize("total", [500, 4_000], ids=["one PUT", "in parts"])
async def test_stored_objects_carry_the_upload_mark(
    world: World, monkeypatch: pytest.MonkeyPatch, total: int
) -> None:
    """Consumers of the store's own notifications recognise by it that the node is the upload's."""
    seen: list[ObjectAttributes] = []

    def noting(name: str) -> None:
        call = getattr(world.objects, name)

        async def noted(*arguments: Any) -> Any:
            seen.append(arguments[-1])
            return await call(*arguments)

        monkeypatch.setattr(world.objects, name, noted)

    noting("put")
    noting("open_multipart")
    upload = await world.upload(pieces(total, 500))
    await world.settle(30)
    await world.assert_whole(upload)
    assert [one.metadata for one in seen] == [upload_mark(upload.id)]


# ------------------------------------------------------------------ more than one worker


@pytest.mark.rule(13)
async def test_workers_of_one_process_open_one_multipart(world: World) -> None:
    upload = await world.upload(pieces(4_000, 500))
    slow = asyncio.Event()

    async def wait() -> None:
        await slow.wait()

    world.objects.on_call["open_multipart"] = wait
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(world.part_worker.work_one(0))
        await asyncio.sleep(0.05)
        slow.set()
    assert world.objects.calls.count("open_multipart") == 1
    assert world.outcomes() == {"stored": 4}
    await world.settle(30)
    await world.assert_whole(upload)


@pytest.mark.rule(13)
async def test_loser_of_a_double_open_aborts_its_multipart(world: World) -> None:
    """Another process opens a multipart at the same time."""
    upload = await world.upload(pieces(2_000, 500))

    async def other_process_wins() -> None:
        del world.objects.on_call["open_multipart"]
        claim = await world.deps.ledger.claim_part(upload.id, 2, "other", 15)
        assert claim is not None
        won = await world.objects.open_multipart(upload.new.object, ObjectAttributes())
        assert await world.deps.ledger.set_multipart(claim, won) == won
        await world.deps.ledger.release_claim(claim)

    world.objects.on_call["open_multipart"] = other_process_wins
    await world.part_worker.work_one(0)
    snapshot = await world.snapshot(upload)
    assert list(await world.objects.open_multiparts(upload.new.object)) == [snapshot.multipart_id]
    await world.settle(30)
    await world.assert_whole(upload)


@pytest.mark.rule(15)
async def test_two_deliveries_of_one_item_share_no_claim(world: World) -> None:
    """The sweeper hints at a part while a worker stores it."""
    upload = await world.upload(pieces(2_000, 500))
    item = WorkItem(WorkKind.PART, upload.id, TENANT, 1)
    seen: list[dict[str, int]] = []

    async def hint_again() -> None:
        del world.objects.on_call["put_part"]
        await world.deps.queue.put(item)
        while await world.part_worker.work_one(0):
            pass
        seen.append(world.outcomes())

    world.objects.on_call["put_part"] = hint_again
    await world.part_worker.work_one(0)
    assert seen == [{"stale": 1, "stored": 1}]  # part 1 was held, part 2 was free
    assert world.objects.calls.count("put_part") == 2
    await world.settle(30)
    await world.assert_whole(upload)


@pytest.mark.rule(15, 17)
async def test_worker_paused_past_its_lease_is_fenced(world: World) -> None:
    """The worker is paused past its lease while storing; another one stores the part."""
    upload = await world.upload(pieces(2_000, 500))

    async def sleep_past_the_lease() -> None:
        del world.objects.on_call["put_part"]
        world.clock.advance(20)
        await world.deps.queue.put(WorkItem(WorkKind.PART, upload.id, TENANT, 1))
        while await world.part_worker.work_one(0):
            pass

    world.objects.on_call["put_part"] = sleep_past_the_lease
    await world.part_worker.work_one(0)
    counted = world.outcomes()
    assert counted["stored"] == 2
    # Its chunks were already dropped when it read them; its rejection was fenced.
    assert counted["lost"] == 1
    await world.settle(60)
    await world.assert_whole(upload)
    assert (await world.orphans()).none()


async def test_item_of_unknown_upload_is_acknowledged(world: World) -> None:
    for kind in WorkKind:
        await world.deps.queue.put(WorkItem(kind, "lost-upload", TENANT, 1))
    await world.work()
    assert world.outcomes() == {"stale": 1}
    assert world.outcomes("sluice_completions") == {"stale": 1}
    assert (await world.deps.queue.depth()).items == 0
