"""SIGTERM to a real process: sessions end in order, and the process ends soon."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sluice_gateway.live.stomp.closing import CloseCode
from support.clone import ROOT
from support.live_gateway import (
    WAIT_SECONDS,
    event_stream,
    small_socket,
    stomp_client,
)

RESTART = re.compile(r"RESTART retry-after-ms=(\d+)")


@dataclass
class LiveProcess:
    """A running process; enough of a `LiveGateway` for the clients of the tests."""

    process: asyncio.subprocess.Process
    port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def publish(self, count: int) -> None:
        """Publish as many changes, and wait until all are out."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"\n" * count)
        self.process.stdin.close()
        async with asyncio.timeout(WAIT_SECONDS):
            assert await self.process.stdout.readline() == b"published\n"

    async def rest(self) -> str:
        """Return what the process has logged."""
        assert self.process.stdout is not None
        return (await self.process.stdout.read()).decode()

    async def exit_code(self) -> int:
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def live_process() -> AsyncIterator[LiveProcess]:
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "support.live_process"),
        env={**os.environ, "PYTHONPATH": path},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_SECONDS):
            port = int(await process.stdout.readline())
        yield LiveProcess(process, port)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_sigterm_sends_clients_elsewhere_and_ends() -> None:
    async with live_process() as running:
        async with stomp_client(running, origin=None) as client, event_stream(running) as events:
            await client.connect()
            await client.subscribe("/topic/job/job-1")
            await client.next_message()
            assert await events.next_block() == {"retry": "2000"}
            assert (await events.next_event())[0] == "snapshot"
            running.process.terminate()
            code, reason, frames = await client.closed()
            assert (code, frames) == (CloseCode.RESTART, [])
            hint = RESTART.fullmatch(reason)
            assert hint is not None
            assert 0 <= int(hint[1]) <= 10_000
            last = re.fullmatch(rb"retry: (\d+)\n\n", await events.rest())
            assert last is not None
            assert 0 <= int(last[1]) <= 10_000
        assert await running.exit_code() == 0


async def test_sigterm_does_not_wait_for_a_client_that_does_not_read() -> None:
    """Its socket is full, and its session waits for room: the end of the process does not."""
    async with (
        live_process() as running,
        stomp_client(
            running, origin=None, sock=small_socket(running), max_queue=1, close_timeout=0.05
        ) as client,
    ):
        await client.connect()
        await client.subscribe("/topic/job/job-1")
        await running.publish(3_000)
        running.process.terminate()
        assert await running.exit_code() == 0
        assert "live_sessions.drain_timed_out" in await running.rest(), "the session did wait"
