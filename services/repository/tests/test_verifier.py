"""Tests of the verifier: SHA-256 once per node, and never for damaged bytes (rule 20)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from sluice_core.errors import NotFound, Unavailable
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.model import Integrity, ObjectRef
from sluice_repository.roles.digests import digest_object
from sluice_repository.roles.verifier import Verifier
from support.roles import TENANT, Upload, World, pieces
from support.waiting import until

CHUNKS = pieces(2_300, 500)

Reader = Callable[[ObjectRef, int, int], AsyncIterator[bytes]]


async def completed(world: World, path: str = "a.bin") -> Upload:
    upload = await world.upload(CHUNKS, path=path)
    await world.work()
    return upload


def failures(world: World) -> float:
    return world.counted("sluice_integrity_failures_total", where="verifier")


@pytest.mark.rule(20)
async def test_verified_node_has_sha256_and_emits_event(world: World) -> None:
    upload = await completed(world)
    assert (await world.node(upload)).sha256 is None
    assert await world.verifier.verify_all() == 1
    assert (await world.node(upload)).sha256 == hashlib.sha256(upload.content).digest()
    await world.settle(10)
    assert world.publisher.types(upload.new.node_id) == [
        "UploadInitiated",
        "UploadCompleted",
        "NodeVerified",
    ]
    assert await world.verifier.verify_all() == 0


@pytest.mark.rule(20)
async def test_drive_without_sha256_is_not_verified(world: World) -> None:
    upload = await world.upload(CHUNKS, integrity=Integrity.CRC)
    await world.work()
    assert await world.verifier.verify_all() == 0
    assert (await world.node(upload)).sha256 is None


@pytest.mark.rule(20)
async def test_damaged_object_is_reported_every_pass_without_sha256(
    world: World,
) -> None:
    damaged = await completed(world)
    whole = await completed(world, path="b.bin")
    await world.objects.put(damaged.new.object, BytesBody(b"rotten"), ObjectAttributes())
    assert await world.verifier.verify_all() == 1
    assert failures(world) == 1
    assert (await world.node(damaged)).sha256 is None
    assert (await world.node(whole)).sha256 is not None
    await world.verifier.verify_all()
    assert failures(world) == 2


async def test_missing_object_of_live_node_is_reported(world: World) -> None:
    upload = await completed(world)
    await world.objects.delete(upload.new.object)
    assert await world.verifier.verify_all() == 0
    assert failures(world) == 1


async def test_node_deleted_during_read_is_no_failure(world: World) -> None:
    upload = await completed(world)
    nodes = await world.catalogue.nodes_without_sha256(10)
    await world.catalogue.delete_node(TENANT, upload.new.node_id)
    await world.objects.delete(upload.new.object)
    assert await world.verifier._verify(nodes[0])
    assert failures(world) == 0


@pytest.mark.rule(20)
async def test_one_process_at_a_time_verifies(world: World) -> None:
    await completed(world)
    first = world.verifier
    assert await first.verify_all() == 1
    await completed(world, path="b.bin")
    other = Verifier(replace(world.deps, holder="another process"), world.catalogue)
    assert await other.verify_all() == 0
    assert await first.verify_all() == 1


async def test_running_verifier_retries_an_unavailable_store(world: World) -> None:
    upload = await completed(world)
    read = world.objects.read
    world.objects.read = _away_once(world, read)  # type: ignore[method-assign, assignment]
    deps = replace(world.deps, options=replace(world.deps.options, verify_interval_seconds=0.01))
    stop = asyncio.Event()

    async def verified() -> bool:
        return (await world.node(upload)).sha256 is not None

    async with asyncio.TaskGroup() as group:
        group.create_task(Verifier(deps, world.catalogue).run(stop))
        await until(verified)
        stop.set()
    assert failures(world) == 0


def _away_once(world: World, read: Reader) -> Reader:
    asked: list[int] = []

    async def away(ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        asked.append(1)
        if len(asked) == 1:
            raise Unavailable("STORE_UNAVAILABLE", "Away.")
        async for block in read(ref, offset, length):
            yield block

    return away


async def test_hashing_respects_its_rate_limit(world: World) -> None:
    upload = await completed(world)
    loop = asyncio.get_running_loop()
    began = loop.time()
    digest = await digest_object(
        world.deps.objects,
        upload.new.object,
        2_300,
        read_timeout_seconds=5,
        bytes_per_second=10_000,
    )
    assert digest.sha256 == hashlib.sha256(upload.content).digest()
    assert loop.time() - began >= 0.22


async def test_store_that_stops_sending_is_unavailable(world: World) -> None:
    async def stuck(ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    upload = await completed(world)
    world.objects.read = stuck  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="STORE_UNAVAILABLE"):
        await digest_object(world.deps.objects, upload.new.object, 10, read_timeout_seconds=0.05)


async def test_digest_of_missing_object_raises_not_found(world: World) -> None:
    upload = await world.begin(CHUNKS)
    with pytest.raises(NotFound, match="OBJECT_NOT_FOUND"):
        await digest_object(world.deps.objects, upload.new.object, 1, read_timeout_seconds=5)
