"""Metrics that objectives and alerts are made of: what they measure, and when it is reset."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_core.errors import Unavailable
from sluice_core.ports.event_publisher import EventPublisher, EventRecord, event_refused
from sluice_core.uploads.model import MIB
from sluice_repository.metrics import RepositoryMetrics, SizeClass
from sluice_repository.roles.gauges import GaugeRefresher
from sluice_repository.roles.relay import Relay
from support.roles import World, pieces, small_world

CHUNKS = pieces(2_300, 500)
HOUR = 3600.0
COMPLETED = "sluice_upload_completion_seconds"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, SizeClass.SMALL),
        (8 * MIB - 1, SizeClass.SMALL),
        (8 * MIB, SizeClass.MEDIUM),
        (1024 * MIB - 1, SizeClass.MEDIUM),
        (1024 * MIB, SizeClass.LARGE),
    ],
)
def test_size_class_bounds(size: int, expected: SizeClass) -> None:
    assert SizeClass.of(size) is expected


@pytest.mark.parametrize("chunks", [CHUNKS, pieces(700, 100)], ids=["multipart", "single put"])
async def test_completion_time_counts_from_its_request(world: World, chunks: list[bytes]) -> None:
    """Neither from the first chunk, nor from the moment at which a worker takes the item."""
    upload = await world.begin(chunks)
    for number in range(len(chunks)):
        await world.send(upload, number)
    world.clock.advance(HOUR)
    await world.complete(upload)
    world.clock.advance(7.0)
    await world.work()
    assert (await world.snapshot(upload)).completing_at is not None
    assert world.counted(f"{COMPLETED}_count", size="small") == 1
    assert world.counted(f"{COMPLETED}_sum", size="small") == pytest.approx(7.0)
    assert world.counted(f"{COMPLETED}_count", size="large") == 0


async def test_failed_completion_is_not_measured(world: World) -> None:
    await world.upload(CHUNKS, crc32c=1)
    await world.work()
    assert world.counted(f"{COMPLETED}_count", size="small") == 0


async def test_oldest_event_age_grows_while_the_broker_is_away(world: World) -> None:
    world.publisher.away = 1
    await world.upload(CHUNKS)
    world.clock.advance(30.0)
    with pytest.raises(Unavailable):
        await world.relay.relay_once()
    assert world.counted("sluice_events_oldest_age_seconds") == pytest.approx(30.0)
    world.clock.advance(600.0)
    assert world.counted("sluice_events_oldest_age_seconds") == pytest.approx(630.0)
    while await world.relay.relay_once():
        pass
    assert world.counted("sluice_events_oldest_age_seconds") == 0
    assert world.counted("sluice_events_pending") == 0


async def test_outbox_counts_for_the_oldest_event_age(world: World) -> None:
    """After the commit, the ledger has no event of the upload any more."""
    world.publisher.away = 1
    await world.upload(CHUNKS)
    await world.work()
    world.clock.advance(40.0)
    with pytest.raises(Unavailable):
        await world.relay.relay_once()
    assert world.counted("sluice_events_oldest_age_seconds") == pytest.approx(40.0)


class RefusingAll:
    """A publisher that refuses every event while `refuses`, as Kafka does with large metadata."""

    def __init__(self, inner: EventPublisher) -> None:
        self._inner = inner
        self.refuses = True

    async def publish(self, events: Sequence[EventRecord]) -> None:
        if self.refuses:
            raise event_refused(events[0].event_id, events[0].key, "The event is too large.")
        await self._inner.publish(events)


@pytest.mark.parametrize("with_catalogue", [False, True])
async def test_retry_of_a_withheld_event_is_no_backlog(
    tmp_path: Path, with_catalogue: bool
) -> None:
    """Its node has an alert of its own, and is not what a broker or a relay is behind with."""
    async with small_world(tmp_path, with_catalogue=with_catalogue) as world:
        publisher = RefusingAll(world.publisher)
        relay = Relay(replace(world.deps, publisher=publisher))
        upload = await world.begin(CHUNKS)
        for _ in range(3):
            await relay.relay_once()
            assert world.counted("sluice_events_withheld") == 1
            world.clock.advance(61.0)  # it is due
        assert world.counted("sluice_events_oldest_age_seconds") == 0
        publisher.refuses = False
        assert await relay.relay_once() == 1
        # Later events of the node count again.
        await world.deps.ledger.abort(upload.id)
        world.publisher.away = 1
        with pytest.raises(Unavailable):
            await relay.relay_once()
        world.clock.advance(30.0)
        assert world.counted("sluice_events_oldest_age_seconds") == pytest.approx(30.0)


async def test_relay_without_the_lease_reports_no_backlog(world: World) -> None:
    world.publisher.away = 1
    await world.upload(CHUNKS)
    with pytest.raises(Unavailable):
        await world.relay.relay_once()
    assert world.counted("sluice_events_pending") > 0
    await world.relay._lease.release()  # as after a pause that outlasts the lease
    assert await world.catalogue.hold_lease("relay", "another", 3600.0)
    world.clock.advance(20.0)
    assert await world.relay.relay_once() == 0
    assert world.counted("sluice_events_pending") == 0
    assert world.counted("sluice_events_oldest_age_seconds") == 0


async def test_failing_sweep_kind_keeps_its_last_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.sweeper.sweep()
    before = world.clock.now
    world.clock.advance(HOUR)

    async def broken(limit: int) -> list[object]:
        raise Unavailable("STORE_UNAVAILABLE", "The store is away; try again.")

    monkeypatch.setattr(world.deps.ledger, "purge_due", broken)
    await world.sweeper.sweep()
    assert world.counted("sluice_sweep_timestamp_seconds", kind="purged") == before
    assert world.counted("sluice_sweep_timestamp_seconds", kind="expired") == world.clock.now


async def test_kind_that_fails_from_the_start_has_a_series(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a series no alert could see that it is behind; a time would hide it."""
    tried = asyncio.Event()

    async def broken(limit: int) -> list[object]:
        tried.set()
        raise Unavailable("STORE_UNAVAILABLE", "The store is away; try again.")

    monkeypatch.setattr(world.deps.ledger, "purge_due", broken)
    stop = asyncio.Event()
    async with asyncio.timeout(30.0), asyncio.TaskGroup() as group:
        group.create_task(world.sweeper.run(stop))
        await tried.wait()
        stop.set()
    registry = world.deps.metrics.registry
    times = {"kind": "purged"}
    assert registry.get_sample_value("sluice_sweep_timestamp_seconds", times) == 0
    failures = registry.get_sample_value("sluice_sweep_item_failures_total", {"kind": "purged"})
    assert failures == 0


async def test_item_that_cannot_be_cleaned_is_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await world.begin(CHUNKS)
    await world.send(upload, 0)
    await world.deps.ledger.abort(upload.id)

    async def broken(upload_id: str) -> None:
        raise Unavailable("STORE_UNAVAILABLE", "The store is away; try again.")

    with monkeypatch.context() as patch:
        patch.setattr(world.deps.chunks, "drop_upload", broken)
        await world.sweeper.sweep()
    assert world.counted("sluice_sweep_item_failures_total", kind="cleaned") == 1
    await world.sweeper.sweep()
    assert world.counted("sluice_sweep_item_failures_total", kind="cleaned") == 1
    assert world.counted("sluice_sweeps_total", kind="cleaned") == 1


async def test_restored_older_schema_is_reported(tmp_path: Path) -> None:
    async with small_world(tmp_path) as world:
        gauges = GaugeRefresher(world.deps)
        await gauges.refresh()
        assert world.counted("sluice_catalogue_migrations_pending") == 0
        set_revision(tmp_path, "0007")
        await gauges.refresh()
        assert world.counted("sluice_catalogue_migrations_pending") > 0
        set_revision(tmp_path, "of a newer release")
        await gauges.refresh()
        assert world.counted("sluice_catalogue_migrations_pending") == 0


@pytest.mark.parametrize("broken", ["ledger", "queue", "catalogue"])
async def test_gauges_of_other_backends_go_on_while_one_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Replicas are added by the depth of the queue, whatever else does not answer."""

    async def away() -> None:
        raise Unavailable("CATALOGUE_UNAVAILABLE", "It is away; try again.")

    async with small_world(tmp_path) as world:
        gauges = GaugeRefresher(world.deps)
        await gauges.refresh()
        await world.upload(CHUNKS)
        set_revision(tmp_path, "0007")
        method = {"ledger": "backlog", "queue": "depth", "catalogue": "missing_migrations"}[broken]
        monkeypatch.setattr(getattr(world.deps, broken), method, away)
        await gauges.refresh()
        moved = {
            "ledger": world.counted("sluice_open_uploads") > 0,
            "queue": world.counted("sluice_queue_items") > 0,
            "catalogue": world.counted("sluice_catalogue_migrations_pending") > 0,
        }
    assert {name for name, one in moved.items() if not one} == {broken}


def set_revision(folder: Path, revision: str) -> None:
    (file,) = (path for path in folder.rglob("*") if path.suffix in {".db", ".sqlite"})
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def test_series_of_alerts_exist_before_the_first_failure() -> None:
    """A counter that begins at its first failure has no increase that an alert could see."""
    registry = RepositoryMetrics().registry
    for where in ("chunk_store", "object_store", "completion", "verifier", "processor"):
        labels = {"where": where}
        assert registry.get_sample_value("sluice_integrity_failures_total", labels) == 0
    assert registry.get_sample_value("sluice_usage_corrections_total") == 0
