"""Snapshots of many sessions at once take turns, which keep nothing else waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from sluice_core.access.principal import Principal
from sluice_core.errors import Unavailable
from sluice_core.live.updates import Update
from sluice_gateway.live.options import LiveOptions
from sluice_gateway.live.stomp.closing import CloseCode
from sluice_gateway.live.topics import JobTopic, UserTopic
from support.live_gateway import JobTable, event_stream, running_gateway, stomp_client
from support.live_updates import photo_update
from support.waiting import until

JOB = "/topic/job/job-1"
USER = "/user/queue/progress"
CLIENTS = 12


class BusyTable(JobTable):
    """A catalogue with few connections, whose answers wait until the test lets them go."""

    def __init__(self, connections: int) -> None:
        super().__init__()
        self.add("job-1", "ann", photo_update("p1"))
        self.connections = connections
        self.in_use = 0
        self.answers = asyncio.Event()

    async def _answered(self) -> None:
        if self.in_use == self.connections:
            raise Unavailable("CATALOGUE_UNAVAILABLE", "No connection is free.")
        self.in_use += 1
        try:
            await self.answers.wait()
        finally:
            self.in_use -= 1

    async def snapshot(self, principal: Principal, topic: JobTopic | UserTopic) -> Sequence[Update]:
        await self._answered()
        return await super().snapshot(principal, topic)


@pytest.fixture
def jobs() -> BusyTable:
    return BusyTable(LiveOptions().catalogue_reads)


async def test_snapshots_of_many_sessions_take_turns(jobs: BusyTable) -> None:
    """Together they would ask for more connections than there are, and end."""
    async with running_gateway(jobs=jobs) as gateway, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(stomp_client(gateway)) for _ in range(CLIENTS)]
        for client in clients:
            await client.connect()
            await client.subscribe(USER)
        await until(lambda: jobs.in_use == jobs.connections)
        jobs.answers.set()
        for client in clients:
            assert (await client.next_message())["photoId"] == "p1"


async def test_stop_does_not_wait_for_snapshots(jobs: BusyTable) -> None:
    async with running_gateway(jobs=jobs) as gateway, stomp_client(gateway) as client:
        await client.connect()
        await client.subscribe(USER)
        await until(lambda: jobs.in_use == 1)
        async with event_stream(gateway) as events:
            await until(lambda: jobs.in_use == 2)
            async with asyncio.timeout(10.0):
                await gateway.hub.sessions.stop()
            assert await events.rest() == b"retry: 2000\n\nretry: 5000\n\n"
        code, _, _ = await client.closed()
        assert (code, jobs.in_use) == (CloseCode.RESTART, 0)


async def test_requests_are_answered_beside_a_snapshot(jobs: BusyTable) -> None:
    """The snapshot of a subscription that has ended gives its connection back."""
    async with running_gateway(jobs=jobs) as gateway, stomp_client(gateway) as client:
        await client.connect()
        await client.subscribe(USER)
        await until(lambda: jobs.in_use == 1)
        await client.send("UNSUBSCRIBE", ("id", "s"), ("receipt", "u"))
        assert (await client.next_frame()).header("receipt-id") == "u"
        await until(lambda: jobs.in_use == 0)
