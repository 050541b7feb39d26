"""Two replicas of live updates on one Redis: any of them serves any client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sluice_backends.redis.client.connection import open_redis
from sluice_backends.redis.live.updates import RedisLiveUpdates
from sluice_backends.redis.options import RedisOptions
from sluice_gateway.live.stomp.closing import CloseCode
from support.live_gateway import (
    JobTable,
    LiveGateway,
    event_stream,
    running_gateway,
    stomp_client,
)
from support.live_updates import photo_update
from support.redis_server import OPERATION_SECONDS, RedisServer, shared_server

JOB = "/topic/job/job-1"


def job_table() -> JobTable:
    jobs = JobTable()
    jobs.add("job-1", "ann", photo_update("p1"))
    return jobs


@asynccontextmanager
async def replica(server: RedisServer, jobs: JobTable) -> AsyncIterator[LiveGateway]:
    options = RedisOptions(server.url, operation_timeout_seconds=OPERATION_SECONDS)
    async with open_redis(options) as clients:
        updates = RedisLiveUpdates(clients)
        async with updates.running(), running_gateway(updates, jobs) as gateway:
            yield gateway


async def test_change_on_one_replica_reaches_clients_of_both() -> None:
    server, jobs = shared_server(), job_table()
    server.flush()
    async with (
        replica(server, jobs) as first,
        replica(server, jobs) as second,
        stomp_client(first) as client,
        event_stream(second) as events,
    ):
        await client.connect()
        await client.subscribe(JOB)
        await client.next_message()
        assert (await events.next_event())[0] == "snapshot"
        for version, gateway in enumerate((first, second, first), start=2):
            await gateway.publish(photo_update("p1", "UPLOADING", version=version, sent=version))
            by_stomp, (_, by_events, _) = await client.next_message(), await events.next_event()
            assert by_stomp == by_events
            assert by_stomp["bytesSent"] == version


async def test_client_of_a_stopped_replica_resumes_on_another() -> None:
    """Without a snapshot: the sequence of one replica means the same to all."""
    server, jobs = shared_server(), job_table()
    server.flush()
    async with replica(server, jobs) as first, replica(server, jobs) as second:
        async with stomp_client(first) as client:
            await client.connect()
            await client.subscribe(JOB)
            sequence = (await client.next_message())["sequence"]
            await first.hub.sessions.stop()
            assert (await client.closed())[0] == CloseCode.RESTART
        await second.publish(photo_update("p1", "COMPLETED", version=2))
        snapshots = jobs.snapshots
        async with (
            stomp_client(second) as client,
            event_stream(second, last_event_id=str(sequence)) as events,
        ):
            await client.connect()
            await client.subscribe(JOB, "s", ("after", str(sequence)))
            assert (await client.next_message())["status"] == "COMPLETED"
            assert (await events.next_event())[1]["status"] == "COMPLETED"
        assert jobs.snapshots == snapshots


async def test_emptied_redis_gives_open_sessions_a_snapshot() -> None:
    server, jobs = shared_server(), job_table()
    server.flush()
    async with replica(server, jobs) as gateway, stomp_client(gateway) as client:
        await client.connect()
        await client.subscribe(JOB)
        await client.next_message()
        server.flush()
        jobs.add("job-1", "ann", photo_update("p1", "FAILED", version=7))
        await gateway.publish(photo_update("unrelated", job_id="job-9"))
        frame = await client.next_frame()
        assert frame.header("kind") == "snapshot"
        assert b'"FAILED"' in frame.body


async def test_redis_that_restarts_costs_open_sessions_nothing() -> None:
    """What was published meanwhile is lost there, and the snapshot has it."""
    jobs = job_table()
    with RedisServer() as server:
        async with replica(server, jobs) as gateway, stomp_client(gateway) as client:
            await client.connect()
            await client.subscribe(JOB)
            await client.next_message()
            server.kill()
            async with stomp_client(gateway) as refused:
                await refused.connect("bob")
                code, reason, _ = await refused.closed()
                assert (code, reason) == (CloseCode.TRY_AGAIN_LATER, "REDIS_UNAVAILABLE")
            jobs.add("job-1", "ann", photo_update("p1", "PROCESSING", version=2))
            server.start()
            frame = await client.next_frame()
            assert frame.header("kind") == "snapshot"
            assert b'"PROCESSING"' in frame.body
            await gateway.publish(photo_update("p1", "COMPLETED", version=3))
            assert (await client.next_message())["status"] == "COMPLETED"
