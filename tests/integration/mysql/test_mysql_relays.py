"""Tests of several relays on one outbox: only the lease holder publishes (rule 22)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_backends.sql.catalogue import SqlCatalogue, open_catalogue
from sluice_core.errors import Unavailable
from sluice_core.ports.event_publisher import EventRecord
from sluice_repository.deps import RepositoryDeps
from sluice_repository.options import RepositoryOptions
from sluice_repository.roles.relay import Relay
from support.commits import DRIVE, TENANT, finished_upload
from support.roles import small_world

OPTIONS = RepositoryOptions(
    relay_batch_events=5, relay_lease_seconds=0.4, relay_poll_seconds=0.02, retry_base_seconds=0.01
)
NODES = 60


class SlowBroker:
    """An `EventPublisher` with delays and lost responses that records all events."""

    def __init__(self) -> None:
        self.events: list[EventRecord] = []
        self.batches = 0
        self._random = random.Random(7)

    async def publish(self, events: Sequence[EventRecord]) -> None:
        self.batches += 1
        await asyncio.sleep(self._random.uniform(0, 0.02))
        self.events += events
        if self._random.random() < 0.1:
            raise Unavailable("PUBLISHER_UNAVAILABLE", "The response was lost; try again.")

    def first_appearances(self, node_id: str) -> list[str]:
        seen = {e.event_id: e.type.rpartition(".")[2] for e in self.events if e.key == node_id}
        return list(seen.values())


@asynccontextmanager
async def processes(
    url: str, folder: Path, broker: SlowBroker, count: int
) -> AsyncIterator[list[RepositoryDeps]]:
    """Yield dependencies of repository processes with separate connections."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(small_world(folder, with_catalogue=False))
        yield [
            replace(
                world.deps,
                catalogue=await stack.enter_async_context(open_catalogue(url)),
                publisher=broker,
                holder=f"process-{number}",
                options=OPTIONS,
                relay_wakeup=asyncio.Event(),
            )
            for number in range(count)
        ]


@pytest.mark.rule(22)
async def test_events_of_each_node_stay_in_order_across_relays(
    url: str, catalogue: SqlCatalogue, tmp_path: Path
) -> None:
    uploads = [finished_upload(f"path-{number % 5}") for number in range(NODES)]
    broker, stop = SlowBroker(), asyncio.Event()
    async with (
        processes(url, tmp_path, broker, 4) as deps,
        asyncio.timeout(60),
        asyncio.TaskGroup() as group,
    ):
        relays = [group.create_task(Relay(one).run(stop)) for one in deps[:3]]

        async def write(first: int) -> None:
            for upload in uploads[first::3]:
                await catalogue.commit_node(upload)

        async with asyncio.TaskGroup() as writers:
            for first in range(3):
                writers.create_task(write(first))
            for relay in relays[:2]:
                await asyncio.sleep(0.1)
                relay.cancel()  # at an arbitrary point
        relays.append(group.create_task(Relay(deps[3]).run(stop)))
        while await catalogue.outbox(1):  # noqa: ASYNC110 - the relays'
            await asyncio.sleep(0.05)
        stop.set()
    live = {node.node_id for node in (await catalogue.list_nodes(TENANT, DRIVE, "", 9, "")).nodes}
    for upload in uploads:
        life = ["UploadCompleted", "NodeDeleted"][: 1 if upload.node_id in live else 2]
        assert broker.first_appearances(upload.node_id) == life


@pytest.mark.rule(22)
async def test_only_the_holder_of_the_lease_publishes(
    url: str, catalogue: SqlCatalogue, tmp_path: Path
) -> None:
    broker = SlowBroker()
    async with processes(url, tmp_path, broker, 3) as deps:
        long = replace(OPTIONS, relay_lease_seconds=60.0)
        relays = [Relay(replace(one, options=long)) for one in deps]
        await catalogue.commit_node(finished_upload("a"))
        moved = await asyncio.gather(*(relay.relay_once() for relay in relays))
        assert sorted(moved) == [0, 0, 1]
        assert broker.batches == 1
