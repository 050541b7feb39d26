"""Tests of all roles together on durable adapters: work, drain and hand-over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_backends.embedded.chunks.store import FileChunkStore
from sluice_backends.embedded.ledger.ledger import open_sqlite_ledger
from sluice_backends.memory.queue import InProcessQueue
from sluice_core.errors import Unavailable
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.model import UploadStatus
from sluice_repository.options import RepositoryOptions
from sluice_repository.role_set import ALL_ROLES, Role, run_roles
from support.roles import Upload, World, pieces, small_world
from support.waiting import until

CHUNKS = pieces(5_300, 300)
OPTIONS = RepositoryOptions(
    part_workers=3,
    completion_workers=2,
    take_wait_seconds=0.05,
    retry_base_seconds=0.01,
    retry_cap_seconds=0.1,
    sweep_interval_seconds=0.2,
    relay_poll_seconds=0.05,
    verify_interval_seconds=0.1,
    drain_seconds=1.0,
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world on the embedded ledger and chunk files, in real time."""
    options = LedgerOptions(look_ahead_parts=1_000)
    async with (
        small_world(tmp_path, options=OPTIONS) as world,
        open_sqlite_ledger(tmp_path / "ledger.db", options, fsync=False) as ledger,
        FileChunkStore(tmp_path / "chunks", fsync=False) as chunks,
    ):
        world.deps = replace(world.deps, ledger=ledger, chunks=chunks, queue=InProcessQueue())
        yield world


@asynccontextmanager
async def running(world: World, roles: frozenset[Role] = ALL_ROLES) -> AsyncIterator[None]:
    """Run the roles inside the block; on exit stop them and wait until they end."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_roles(roles, world.deps, stop))
        try:
            yield
        finally:
            stop.set()


async def ended(world: World, upload: Upload) -> None:
    async def is_completed() -> bool:
        return await world.status(upload) is UploadStatus.COMPLETED

    await until(is_completed)


async def test_all_roles_turn_uploads_into_verified_nodes(world: World) -> None:
    async with running(world):
        uploads = [await world.upload(CHUNKS, path=f"{n}.bin") for n in range(5)]
        for upload in uploads:
            await ended(world, upload)

            async def is_verified(node_id: str = upload.new.node_id) -> bool:
                return world.publisher.types(node_id)[-1:] == ["NodeVerified"]

            await until(is_verified)
            node = await world.assert_whole(upload)
            assert node is not None
            assert node.sha256 is not None


async def test_process_reports_the_roles_that_it_runs(world: World) -> None:
    def reported(role: Role) -> float | None:
        return world.deps.metrics.registry.get_sample_value("sluice_role_running", {"role": role})

    async with running(world, frozenset({Role.PARTS, Role.RELAY})):
        await until(lambda: reported(Role.PARTS) == reported(Role.RELAY) == 1.0)
        assert reported(Role.SWEEPER) is None


@pytest.mark.rule(15)
async def test_work_ready_before_start_is_done(world: World) -> None:
    upload = await world.upload(CHUNKS)
    world.deps = replace(world.deps, queue=InProcessQueue())
    async with running(world):
        await ended(world, upload)
    assert await world.stored_bytes(upload) == upload.content


async def test_stop_lets_a_worker_finish_its_current_item(world: World) -> None:
    storing, finish = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        storing.set()
        await finish.wait()

    world.objects.on_call["put_part"] = slow
    world.deps = replace(world.deps, options=replace(OPTIONS, drain_seconds=60.0))
    upload = await world.begin(CHUNKS)
    for number in range(4):
        await world.send(upload, number)
    async with running(world, frozenset({Role.PARTS})):
        await storing.wait()
        asyncio.get_running_loop().call_later(0.3, finish.set)
    assert (await world.snapshot(upload)).stored_parts == 1


async def test_work_longer_than_the_drain_is_released_at_once(world: World) -> None:
    storing = asyncio.Event()

    async def forever() -> None:
        storing.set()
        await asyncio.Event().wait()

    world.objects.on_call["put_part"] = forever
    upload = await world.begin(CHUNKS)
    for number in range(4):
        await world.send(upload, number)
    loop = asyncio.get_running_loop()
    async with running(world, frozenset({Role.PARTS})):
        await storing.wait()
        stopped = loop.time()
    assert loop.time() - stopped < 30
    # Claim and item are free without waiting for a lease of 15 s.
    assert [item.part_number for item in await world.deps.ledger.ready_work(10)] == [1]
    world.objects.on_call.clear()
    async with running(world, frozenset({Role.PARTS})):

        async def stored() -> bool:
            return (await world.snapshot(upload)).stored_parts == 1

        await until(stored, 12)


async def test_failing_queue_does_not_end_the_workers(world: World) -> None:
    take = world.deps.queue.take
    failures: list[Exception] = [RuntimeError("a bug"), Unavailable("QUEUE_UNAVAILABLE", "Away.")]

    async def failing(*args: object) -> object:
        if failures:
            raise failures.pop()
        return await take(*args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.deps.queue, "take", failing)
        async with running(world, frozenset({Role.PARTS, Role.COMPLETER})):
            upload = await world.upload(CHUNKS)
            await ended(world, upload)
    errors = sum(
        world.counted("sluice_role_errors_total", role=role) for role in ("parts", "completer")
    )
    assert errors == 1


async def test_no_background_role_waits_for_the_stop(world: World) -> None:
    async with asyncio.timeout(30):
        async with running(world, frozenset({Role.API})):
            await asyncio.sleep(0.01)


def test_lease_shorter_than_two_heartbeats_is_refused() -> None:
    with pytest.raises(ValueError, match="heartbeat"):
        RepositoryOptions(lease_seconds=10, heartbeat_seconds=5)
    with pytest.raises(ValueError, match="at least 1"):
        RepositoryOptions(part_workers=0)
