"""Tests of the relay: delivery at least once, in order per node, with stable ids."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_common.process.crash_points import CrashPoint
from sluice_core.errors import NotFound, Unavailable
from sluice_core.ports.event_publisher import EventPublisher, EventRecord, event_refused
from sluice_repository.deps import RepositoryDeps
from sluice_repository.roles.relay import Relay
from support.crashes import crash_at
from support.roles import (
    TENANT,
    RecordingPublisher,
    Upload,
    World,
    pieces,
    small_world,
)
from support.waiting import until

CHUNKS = pieces(2_300, 500)
LIFE = ["UploadInitiated", "UploadCompleted", "NodeDeleted"]


async def deleted_upload(world: World, path: str = "a.bin") -> Upload:
    """Upload, complete and delete a node; none of its events is relayed yet."""
    upload = await world.upload(CHUNKS, path=path)
    await world.work()
    await world.catalogue.delete_node(TENANT, upload.new.node_id)
    return upload


async def relay_all(world: World) -> None:
    while await world.relay.relay_once():
        pass


def first_appearances(world: World, upload: Upload) -> list[str]:
    return world.publisher.types(upload.new.node_id)


@pytest.mark.rule(22)
async def test_events_of_a_node_are_published_once_in_order(
    world: World,
) -> None:
    upload = await deleted_upload(world)
    await relay_all(world)
    assert [e.type.rpartition(".")[2] for e in world.publisher.events] == LIFE
    assert {e.key for e in world.publisher.events} == {upload.new.node_id}
    assert await world.relay.relay_once() == 0


@pytest.mark.rule(22)
async def test_unavailable_broker_drops_no_event(world: World) -> None:
    world.publisher.away = 7
    upload = await deleted_upload(world)
    for _ in range(7):
        with pytest.raises(Unavailable):
            await world.relay.relay_once()
        assert world.counted("sluice_events_pending") == 3
    await relay_all(world)
    assert first_appearances(world, upload) == LIFE
    assert len(world.publisher.events) == 3
    assert world.counted("sluice_events_pending") == 0


@pytest.mark.rule(23)
async def test_lost_acknowledgement_repeats_events_under_their_ids(world: World) -> None:
    world.publisher.away = 2
    world.publisher.lossy_answer = True
    upload = await deleted_upload(world)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await world.relay.relay_once()
    await relay_all(world)
    assert len(world.publisher.events) > 3
    assert len({e.event_id for e in world.publisher.events}) == 3
    assert first_appearances(world, upload) == LIFE


@pytest.mark.no_cover
@pytest.mark.rule(22)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(
        st.sampled_from(["relay", "fail", "lose", "work", "crash", "clean"]), max_size=14
    )
)
async def test_interleaved_relay_completer_and_crashes_keep_order(
    steps: list[str],
) -> None:
    with TemporaryDirectory() as folder:
        async with small_world(Path(folder)) as world:
            uploads = [await world.upload(CHUNKS, path=f"{n}.bin") for n in range(2)]
            for step in steps:
                await _take(world, step)
                world.clock.advance(16)
            await world.settle(40)
            for upload in uploads:
                await world.assert_whole(upload)
                assert first_appearances(world, upload) == LIFE[:2]
            assert len({e.event_id for e in world.publisher.events}) == 4


async def _take(world: World, step: str) -> None:
    match step:
        case "relay":
            await world.relay.relay_once()
        case "fail" | "lose":
            world.publisher.away, world.publisher.lossy_answer = 1, step == "lose"
            with suppress(Unavailable):
                await world.relay.relay_once()
            world.publisher.away = 0
        case "work":
            await world.part_worker.work_one(0)
            await world.completion_worker.work_one(0)
        case "crash":
            # Between the commit and dropping the copied events from the ledger.
            await world.sweeper.sweep()
            while await world.part_worker.work_one(0):
                pass
            if (await world.deps.queue.depth()).items:
                with crash_at(CrashPoint.AFTER_CATALOGUE_COMMIT):
                    await world.completion_worker.work_one(0)
                world.boot()
        case _:
            await world.sweeper.sweep()


@pytest.mark.rule(19, 22)
async def test_copied_ledger_events_precede_completed_in_outbox(
    world: World,
) -> None:
    """The completer dies after its commit, before it drops them from the ledger."""
    upload = await world.upload(CHUNKS)
    with crash_at(CrashPoint.AFTER_CATALOGUE_COMMIT):
        await world.work()
    rows = await world.catalogue.outbox(10)
    assert [row.event.type.rpartition(".")[2] for row in rows] == LIFE[:2]
    pending = await world.deps.ledger.upload_events(upload.id)
    assert [event.event_id for event in pending] == [rows[0].event.event_id]


async def test_purged_upload_does_not_stop_the_relay(
    world: World,
) -> None:
    await world.begin(CHUNKS)

    async def purged(upload_id: str, up_to_sequence: int) -> None:
        raise NotFound("UPLOAD_NOT_FOUND", "Unknown.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.deps.ledger, "events_published", purged)
        assert await world.relay.relay_once() == 1


# ------------------------------------------------------------------ refused events


class RefusingOne:
    """A publisher that rejects one event, as Kafka does with one that is too large."""

    def __init__(self, inner: RecordingPublisher) -> None:
        self.inner = inner
        self.refused = ""
        self.calls = 0

    async def publish(self, events: Sequence[EventRecord]) -> None:
        self.calls += 1
        for event in events:
            if event.event_id == self.refused:
                raise event_refused(event.event_id, event.key, "The event is too large.")
        await self.inner.publish(events)


async def test_refused_event_withholds_only_its_own_node(world: World) -> None:
    publisher = RefusingOne(world.publisher)
    relay = Relay(replace(world.deps, publisher=publisher))
    stuck = await deleted_upload(world)
    for row in await world.catalogue.outbox(10):
        if row.event.type.endswith("UploadCompleted"):
            publisher.refused = row.event.event_id
    other = await deleted_upload(world, path="b.bin")
    with structlog.testing.capture_logs() as logs:
        while await relay.relay_once():
            pass
    assert first_appearances(world, other) == LIFE
    assert "NodeDeleted" not in first_appearances(world, stuck)
    assert [entry["event_id"] for entry in logs if entry["event"] == "event.refused"] == [
        publisher.refused
    ]
    assert world.counted("sluice_events_withheld") > 0
    # No further publish attempts follow at once.
    calls = publisher.calls
    assert await relay.relay_once() == 0
    assert publisher.calls == calls


async def test_refused_event_is_published_in_order_after_limit_raised(
    world: World,
) -> None:
    publisher = RefusingOne(world.publisher)
    relay = Relay(replace(world.deps, publisher=publisher))
    upload = await deleted_upload(world)
    publisher.refused = (await world.catalogue.outbox(10))[0].event.event_id
    while await relay.relay_once():
        pass
    assert len(await world.catalogue.outbox(10)) > 0
    publisher.refused = ""
    relay._withheld.clear()  # a minute later
    while await relay.relay_once():
        pass
    assert first_appearances(world, upload) == LIFE
    assert await world.catalogue.outbox(10) == []
    assert world.counted("sluice_events_withheld") == 0


# ------------------------------------------------------------------ one relay at a time


@pytest.mark.rule(22)
async def test_only_the_lease_holder_publishes(world: World) -> None:
    await deleted_upload(world)
    first = world.relay
    world.boot()
    assert await first.relay_once() > 0
    await deleted_upload(world, path="b.bin")
    assert await world.relay.relay_once() == 0
    # The first relay does nothing for longer than its lease.
    world.clock.advance(16)
    assert await world.relay.relay_once() > 0


@pytest.mark.rule(22)
async def test_relay_with_expired_lease_publishes_nothing(world: World) -> None:
    """The relay is paused for longer than its lease between reading and publishing."""
    slow = Relay(world.deps)
    pending = world.deps.ledger.pending_events

    async def paused(limit: int) -> object:
        events = await pending(limit)
        slow._lease._ends = asyncio.get_running_loop().time()
        return events

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.deps.ledger, "pending_events", paused)
        patch.setattr(world.catalogue, "outbox", _no_rows)
        await world.begin(CHUNKS, path="c.bin")
        with pytest.raises(Unavailable, match="RELAY_LEASE_LOST"):
            await slow.relay_once()
    assert world.publisher.events == []


async def _no_rows(limit: int) -> list[object]:
    return []


async def test_stopped_relay_releases_its_lease(world: World) -> None:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(world.relay.run(stop))
        upload = await deleted_upload(world)
        await until(lambda: len(first_appearances(world, upload)) == 3)
        stop.set()
        world.deps.relay_wakeup.set()
    world.boot()
    await deleted_upload(world, path="b.bin")
    assert await world.relay.relay_once() > 0


async def test_wakeup_wakes_the_relay_before_its_poll(world: World) -> None:
    deps = replace(world.deps, options=replace(world.deps.options, relay_poll_seconds=60.0))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(Relay(deps).run(stop))
        await asyncio.sleep(0.1)
        upload = await world.begin(CHUNKS)
        deps.relay_wakeup.set()
        await until(lambda: first_appearances(world, upload) == LIFE[:1])
        stop.set()
        deps.relay_wakeup.set()


async def test_running_relay_survives_broker_outages(world: World) -> None:
    world.publisher.away = 3
    stop = asyncio.Event()
    upload = await deleted_upload(world)
    async with asyncio.TaskGroup() as group:
        group.create_task(world.relay.run(stop))
        await until(lambda: len(first_appearances(world, upload)) == 3)
        stop.set()
        world.deps.relay_wakeup.set()
    assert first_appearances(world, upload) == LIFE


async def test_completed_upload_wakes_the_relay(world: World) -> None:
    await world.upload(CHUNKS)
    world.deps.relay_wakeup.clear()
    await world.work()
    assert world.deps.relay_wakeup.is_set()


class RefusingNodes:
    """A publisher that rejects every event of some nodes, as Kafka does with large metadata."""

    def __init__(self, inner: RecordingPublisher) -> None:
        self.inner = inner
        self.nodes: set[str] = set()

    async def publish(self, events: Sequence[EventRecord]) -> None:
        for event in events:
            if event.key in self.nodes:
                raise event_refused(event.event_id, event.key, "The event is too large.")
        await self.inner.publish(events)


def small_pages(world: World, publisher: EventPublisher) -> RepositoryDeps:
    options = replace(world.deps.options, relay_batch_events=4)
    return replace(world.deps, publisher=publisher, options=options)


@pytest.mark.rule(22)
async def test_withheld_outbox_rows_delay_no_other_node(world: World) -> None:
    """There are several pages of them, before and after other rows; a new relay continues."""
    publisher = RefusingNodes(world.publisher)
    relay = Relay(small_pages(world, publisher))
    for number in range(6):
        stuck = await deleted_upload(world, path=f"stuck-{number}")
        publisher.nodes.add(stuck.new.node_id)
    others = [await deleted_upload(world, path="a")]
    for _ in range(20):
        await relay.relay_once()
    others.append(await deleted_upload(world, path="b"))
    for again in (relay, Relay(small_pages(world, publisher))):
        for _ in range(20):
            await again.relay_once()
        await again._lease.release()
    for other in others:
        assert first_appearances(world, other) == LIFE
    assert await world.catalogue.count_withheld() == 18
    assert world.counted("sluice_events_withheld") == 18


@pytest.mark.rule(22)
async def test_new_event_of_withheld_node_is_withheld(world: World) -> None:
    publisher = RefusingNodes(world.publisher)
    relay = Relay(small_pages(world, publisher))
    upload = await world.upload(CHUNKS)
    await world.work()
    publisher.nodes.add(upload.new.node_id)
    await relay.relay_once()
    publisher.nodes.clear()
    await world.catalogue.delete_node(TENANT, upload.new.node_id)
    for _ in range(5):
        await relay.relay_once()
    assert first_appearances(world, upload) == []
    relay._withheld.clear()  # a minute later
    for _ in range(5):
        await relay.relay_once()
    assert first_appearances(world, upload) == LIFE
    assert await world.catalogue.outbox(10) == []


@pytest.mark.rule(22)
async def test_withheld_ledger_events_delay_no_other_upload(tmp_path: Path) -> None:
    async with small_world(tmp_path, with_catalogue=False) as world:
        publisher = RefusingNodes(world.publisher)
        relay = Relay(small_pages(world, publisher))
        stuck = [await world.upload(CHUNKS, path=f"stuck-{number}") for number in range(9)]
        publisher.nodes |= {upload.new.node_id for upload in stuck}
        other = await world.upload(CHUNKS, path="other")
        for _ in range(10):
            await relay.relay_once()
        assert first_appearances(world, other) == ["UploadInitiated"]
        assert world.counted("sluice_events_withheld") == len(stuck)
        publisher.nodes.clear()
        world.clock.advance(61)
        while await relay.relay_once():
            pass
        for upload in stuck:
            assert first_appearances(world, upload) == ["UploadInitiated"]
        assert world.counted("sluice_events_withheld") == 0
