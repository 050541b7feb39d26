"""Crashes between two slots of a cluster, repaired by the walk (rules 9, 22, 24).

A crash is a ledger whose steps stop after the script on the upload's own keys.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest

from sluice_backends.redis import keys
from sluice_backends.redis.ledger.scripts import INDEXING_SECONDS
from sluice_backends.redis.ledger.steps import LedgerSteps
from sluice_backends.redis.options import RedisOptions
from sluice_core.errors import Aborted, ResourceExhausted
from sluice_core.ports import WorkItem, WorkKind
from sluice_core.uploads.model import UploadStatus
from support.ledgers import DAY, HOUR, PART_BYTES, ROOMY, Driver, FakeClock
from support.redis_ledgers import StagingLedger, opened
from support.redis_server import RedisCluster, shared_cluster

CHUNK = 8


@pytest.fixture
def cluster() -> RedisCluster:
    shared = shared_cluster()
    shared.flush()
    return shared


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened_here:
        yield opened_here


@pytest.fixture
async def driver(cluster: RedisCluster, clock: FakeClock, stack: AsyncExitStack) -> Driver:
    """Driver of a ledger that does not crash."""
    return Driver(await _ledger(cluster, clock, stack), clock)


@pytest.fixture
async def crashing(
    cluster: RedisCluster,
    clock: FakeClock,
    stack: AsyncExitStack,
    monkeypatch: pytest.MonkeyPatch,
) -> Driver:
    """Driver of a process that crashes after every step, before budget and sorted sets change."""
    ledger = await _ledger(cluster, clock, stack)

    async def nothing(*_: Any) -> None:
        """Do nothing: the process has crashed."""

    steps: LedgerSteps = ledger.bare._steps
    monkeypatch.setattr(steps, "_follow_up", nothing)
    monkeypatch.setattr(ledger.bare._creation, "correct_index_entries", nothing)
    return Driver(ledger, clock)


async def _ledger(cluster: RedisCluster, clock: FakeClock, stack: AsyncExitStack) -> StagingLedger:
    redis = RedisOptions(cluster.url, cluster=True, shards=4)
    options = replace(ROOMY, budget_bytes=10 * CHUNK, max_chunk_bytes=2 * CHUNK)
    return await stack.enter_async_context(opened(redis, options, clock))


async def sweep(driver: Driver) -> None:
    """Run a pass of the sweeper, which includes the repair walk."""
    await driver.ledger.expire_due(100)


# ------------------------------------------------------------------ after the script


@pytest.mark.rule(22, 24)
async def test_upload_of_a_crashed_creator_is_found(driver: Driver, crashing: Driver) -> None:
    upload_id = await crashing.create()
    await sweep(driver)
    assert [event.upload_id for event in await driver.ledger.pending_events(10)] == [upload_id]
    page = await driver.ledger.list_uploads("acme", frozenset(), 10, "")
    assert [upload.upload_id for upload in page.uploads] == [upload_id]
    assert (await driver.ledger.backlog()).open_uploads == 1
    driver.clock.advance(DAY)
    await sweep(driver)
    driver.clock.advance(60)
    (expired,) = await driver.ledger.expire_due(10)
    assert expired.upload_id == upload_id


@pytest.mark.rule(9)
async def test_walk_counts_accepted_bytes_and_frees_their_room(
    driver: Driver, crashing: Driver
) -> None:
    upload_id = await driver.create(chunk_size=CHUNK)
    await crashing.send(upload_id, 0, b"x" * CHUNK)
    backlog = await driver.ledger.backlog()
    assert (backlog.queued_bytes, backlog.reserved_bytes) == (
        0,
        CHUNK,
    )  # until it expires
    await sweep(driver)
    driver.clock.advance(600)
    backlog = await driver.ledger.backlog()
    assert (backlog.queued_bytes, backlog.reserved_bytes) == (CHUNK, 0)


@pytest.mark.rule(15)
async def test_walk_finds_a_ready_part_and_a_completion(driver: Driver, crashing: Driver) -> None:
    upload_id = await driver.create()
    await crashing.send(upload_id, 0, b"x" * PART_BYTES)
    await sweep(driver)
    assert await driver.ready() == [(upload_id, 1)]
    await crashing.store(upload_id, 1)
    await crashing.complete(upload_id, 1)
    await sweep(driver)
    assert await driver.ledger.ready_work(10) == [WorkItem(WorkKind.COMPLETION, upload_id, "acme")]
    assert (await driver.ledger.backlog()).queued_bytes == 0


@pytest.mark.rule(22, 25)
async def test_walk_cleans_up_publishes_and_purges_an_ended_upload(
    cluster: RedisCluster, driver: Driver, crashing: Driver
) -> None:
    upload_id = await driver.create()
    await driver.send(upload_id, 0, b"x" * CHUNK)
    await crashing.ledger.abort(upload_id)
    await sweep(driver)
    backlog = await driver.ledger.backlog()
    assert (backlog.queued_bytes, backlog.open_uploads) == (0, 1)
    (due,) = await driver.ledger.cleanups_due(10)
    assert due.upload_id == upload_id
    assert [e.type for e in await driver.ledger.pending_events(10)][-1] == "UploadAborted"
    await crashing.ledger.cleanup_done(upload_id)
    driver.clock.advance(HOUR)
    await sweep(driver)
    (due,) = await driver.ledger.cleanups_due(10)
    await crashing.ledger.cleanup_done(due.upload_id)
    await crashing.ledger.events_published(upload_id, 10)
    driver.clock.advance(DAY)
    await sweep(driver)
    assert await driver.ledger.cleanups_due(10) == []
    assert await driver.ledger.pending_events(10) == []
    assert await driver.ledger.purge_due(10) == 1
    left = [name for name in cluster.all_keys() if upload_id in name and "chunks" not in name]
    assert left == []
    assert (await driver.ledger.backlog()).open_uploads == 0


async def test_walk_finishes_a_partial_purge(
    driver: Driver, crashing: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = await driver.create()
    await driver.ledger.abort(upload_id)
    await driver.ledger.events_published(upload_id, 10)
    for _ in range(2):
        await driver.ledger.cleanup_done(upload_id)
        driver.clock.advance(DAY)
    # Only the first step of `purge_due`.
    assert isinstance(crashing.ledger, StagingLedger)
    await crashing.ledger.bare._steps.run("purge", upload_id)
    await sweep(driver)
    await sweep(driver)
    assert await driver.ledger.purge_due(10) == 0
    assert (await driver.ledger.list_uploads("acme", frozenset(), 10, "")).uploads == ()


# ------------------------------------------------------------------ before the script


async def test_index_entry_without_an_upload_is_dropped(
    cluster: RedisCluster, driver: Driver
) -> None:
    assert isinstance(driver.ledger, StagingLedger)
    new = driver.new()
    await driver.ledger.bare._creation.write_index_entries(new)
    assert (await driver.ledger.backlog()).open_uploads == 1
    await sweep(driver)
    assert (await driver.ledger.backlog()).open_uploads == 1  # it may be about to be created
    driver.clock.advance(2 * INDEXING_SECONDS + 1)
    await sweep(driver)
    assert (await driver.ledger.list_uploads("acme", frozenset(), 10, "")).uploads == ()
    assert (await driver.ledger.backlog()).open_uploads == 0
    assert [name for name in cluster.all_keys() if "index" in name or "tenant" in name] == []


async def test_upload_is_not_created_on_a_stale_index_entry(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The creator is delayed between the two writes."""
    assert isinstance(driver.ledger, StagingLedger)
    creation = driver.ledger.bare._creation
    write = creation.write_index_entries

    async def held_up(new: Any) -> float:
        written_at = await write(new)
        driver.clock.advance(INDEXING_SECONDS + 1)
        return written_at

    monkeypatch.setattr(creation, "write_index_entries", held_up)
    with pytest.raises(Aborted) as refused:
        await driver.create()
    assert refused.value.reason == "CREATED_TOO_LATE"
    monkeypatch.undo()
    await driver.create()


async def test_refused_creation_leaves_no_index_entry(driver: Driver) -> None:
    upload_id = await driver.create(chunk_size=CHUNK)
    for number in range(0, 20, 2):
        await driver.send(upload_id, number, b"x" * CHUNK)
    with pytest.raises(ResourceExhausted):
        await driver.create()
    assert (await driver.ledger.backlog()).open_uploads == 1


# ------------------------------------------------------------------ notes out of order


async def test_late_note_of_an_ended_upload_counts_no_bytes(
    driver: Driver, crashing: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = await driver.create()
    assert isinstance(crashing.ledger, StagingLedger)
    late: list[tuple[Any, ...]] = []

    async def held_up(*note: Any) -> None:
        late.append(note)

    steps = crashing.ledger.bare._steps
    monkeypatch.setattr(steps, "_follow_up", held_up)
    await crashing.send(upload_id, 0, b"x" * CHUNK)
    monkeypatch.undo()
    await driver.ledger.abort(upload_id)
    for note in late:
        await steps._follow_up(*note)
    assert await driver.status(upload_id) is UploadStatus.ABORTED
    backlog = await driver.ledger.backlog()
    assert (backlog.queued_bytes, backlog.reserved_bytes) == (0, 0)


async def test_upload_keys_share_one_slot() -> None:
    names = [*keys.upload_keys("n-1"), keys.staging("n-1", "t"), keys.chunk("n-1", 7)]
    assert all("{n-1}" in name for name in names)
