"""Live updates with @stomp/stompjs from Node as the client, also through sockjs-client."""

from __future__ import annotations

import asyncio

import pytest

from sluice_backends.memory.live import MemoryLiveUpdates
from sluice_gateway.live.options import LiveOptions
from support.live_gateway import JobTable, running_gateway
from support.live_updates import photo_update
from support.stompjs import stompjs


def job_table() -> JobTable:
    jobs = JobTable()
    jobs.add("job-1", "ann", photo_update("p1"), photo_update("p2"))
    jobs.add("secret", "bob")
    return jobs


SOCKJS = pytest.mark.parametrize("sockjs", [False, True], ids=["websocket", "sockjs"])


@SOCKJS
async def test_stompjs_subscribes_and_disconnects(sockjs: bool) -> None:
    options = LiveOptions(heart_beat_ms=50, heart_beat_tolerance=1000.0)
    async with (
        running_gateway(jobs=job_table(), options=options) as gateway,
        stompjs("/topic/job/job-1", "ann", gateway.url, sockjs=sockjs) as client,
    ):
        assert await client.expect("connected") == {
            "event": "connected",
            "version": "1.2",
            "server": "sluice",
        }
        await client.expect("subscribed")
        assert [(await client.expect("message"))["photoId"] for _ in range(2)] == ["p1", "p2"]
        await gateway.publish(photo_update("p1", "PROCESSING", version=2))
        change = await client.expect("message")
        assert (change["kind"], change["status"], change["progress"]) == (
            "change",
            "PROCESSING",
            100,
        )
        assert {(await client.expect("beats"))["direction"] for _ in range(2)} == {"<<<", ">>>"}
        client.finish()
        await client.expect("deactivated")


@SOCKJS
async def test_subscriptions_to_one_destination_are_independent(sockjs: bool) -> None:
    """Two parts of a page that show the same job subscribe to it without knowing of each other."""
    topic = "/topic/job/job-1"
    async with (
        running_gateway(jobs=job_table()) as gateway,
        stompjs(f"{topic},{topic}", "ann", gateway.url, sockjs=sockjs) as client,
    ):
        ids = ("a:b0", "a:b1")
        for subscription in ids:
            for photo in ("p1", "p2"):
                await client.expect("message", subscription=subscription, photoId=photo)
        await gateway.publish(photo_update("p1", "PROCESSING", version=2))
        for subscription in ids:
            await client.expect("message", subscription=subscription, status="PROCESSING")
        await client.unsubscribe("a:b0")
        await gateway.publish(photo_update("p1", "COMPLETED", version=3))
        await client.expect("message", subscription="a:b1", status="COMPLETED")
        client.finish()
        await client.expect("deactivated")
        late = [line for line in client.forget() if line["event"] == "message"]
        assert late == []


@SOCKJS
async def test_stompjs_resumes_on_another_replica(sockjs: bool) -> None:
    """The first replica stops; what changes while nobody listens is not missed."""
    updates, jobs = MemoryLiveUpdates(), job_table()
    async with (
        running_gateway(updates, jobs) as first,
        running_gateway(updates, jobs) as second,
        stompjs("/topic/job/job-1", "ann", first.url, second.url, sockjs=sockjs) as client,
    ):
        for _ in range(2):
            await client.expect("message")
        snapshots = jobs.snapshots
        stopping = asyncio.create_task(first.hub.sessions.stop())
        await first.publish(photo_update("p2", "COMPLETED", version=2))
        closed = await client.expect("closed")
        assert (closed["code"], closed["reason"]) == (1012, "RESTART retry-after-ms=5000")
        missed = await client.expect("message")
        assert (missed["photoId"], missed["status"]) == ("p2", "COMPLETED")
        assert jobs.snapshots == snapshots
        await stopping


async def test_stompjs_reports_the_refusal() -> None:
    async with (
        running_gateway(jobs=job_table()) as gateway,
        stompjs("/topic/job/secret", "ann", gateway.url) as client,
    ):
        await client.expect("connected")
        assert await client.next_line() == {"event": "error", "reason": "JOB_NOT_FOUND"}
