"""Live updates with @stomp/stompjs from Node as the client, also through sockjs-client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sluice_backends.memory.live import MemoryLiveUpdates
from sluice_gateway.live.options import LiveOptions
from support.foreign_clients import node_client
from support.live_gateway import WAIT_SECONDS, JobTable, LiveGateway, running_gateway
from support.live_updates import photo_update


class NodeClient:
    """A running client, and the lines that it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        self._lines, self._input = process.stdout, process.stdin
        self._unread: list[dict[str, Any]] = []

    async def expect(self, event: str) -> dict[str, Any]:
        """Return the first line of this kind that was not returned before."""
        found = next((line for line in self._unread if line["event"] == event), None)
        if found is not None:
            self._unread.remove(found)
            return found
        while (line := await self.next_line())["event"] != event:
            self._unread.append(line)
        return line

    async def next_line(self) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_SECONDS):
            line = await self._lines.readline()
        assert line, "the client has ended"
        found: dict[str, Any] = json.loads(line)
        return found

    def finish(self) -> None:
        self._input.close()


@asynccontextmanager
async def stompjs(
    destination: str, *gateways: LiveGateway, name: str = "ann", sockjs: bool = False
) -> AsyncIterator[NodeClient]:
    command = await asyncio.to_thread(node_client, "stomp")
    urls = [gateway.url for gateway in gateways]
    if sockjs:
        urls = [url.replace("ws://", "http://") for url in urls]
    process = await asyncio.create_subprocess_exec(
        *command.arguments,
        destination,
        name,
        *urls,
        env=command.environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield NodeClient(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


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
        stompjs("/topic/job/job-1", gateway, sockjs=sockjs) as client,
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
async def test_stompjs_resumes_on_another_replica(sockjs: bool) -> None:
    """The first replica stops; what changes while nobody listens is not missed."""
    updates, jobs = MemoryLiveUpdates(), job_table()
    async with (
        running_gateway(updates, jobs) as first,
        running_gateway(updates, jobs) as second,
        stompjs("/topic/job/job-1", first, second, sockjs=sockjs) as client,
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
        stompjs("/topic/job/secret", gateway) as client,
    ):
        await client.expect("connected")
        assert await client.next_line() == {"event": "error", "reason": "JOB_NOT_FOUND"}
