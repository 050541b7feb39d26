"""Clients that follow a job by SSE and by STOMP, and note when they heard of each photo."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from support.keyed_server import ApiUser
from support.live_gateway import event_stream
from support.stompjs import stompjs

_PAUSE_SECONDS = 0.02
"""Before a client comes back to an address whose replica stops, as stomp.js pauses too."""


@dataclass
class Watcher:
    """One client. It comes back when its session ends, and resumes after what it has heard."""

    way: str
    """`sse`, `stomp` or `sockjs`."""
    status: str
    """Of the photos that it looks for."""
    seen: dict[str, float] = field(default_factory=dict)
    """When it first heard of each photo in this status, by the monotonic clock."""
    sessions: int = 0
    snapshots: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the first snapshot is complete."""

    def note(self, message: Any) -> None:
        if message["status"] == self.status and message["photoId"] is not None:
            self.seen.setdefault(message["photoId"], time.monotonic())

    async def read_events(self, user: ApiUser, job_id: str) -> None:
        """Read server-sent events; after an end, come back at once with the newest id."""
        newest: str | None = None
        while True:
            with suppress(EOFError, ConnectionError):  # the replica has ended
                async with event_stream(user, job_id, user.token, newest) as stream:
                    if stream.status == 503:  # this replica stops, and the next one answers
                        await asyncio.sleep(_PAUSE_SECONDS)
                        continue
                    assert stream.status == 200, stream
                    self.sessions += 1
                    while True:
                        kind, data, event_id = await stream.next_event()
                        newest = event_id or newest
                        self.note_event(kind, data)

    def note_event(self, kind: str, data: Any) -> None:
        if kind == "snapshot":
            self.snapshots += data["complete"]
            for update in data["updates"]:
                self.note(update)
            if data["complete"]:
                self.ready.set()
        elif kind == "change":
            self.note(data)

    async def read_stomp(self, user: ApiUser, job_id: str) -> None:
        """Read what @stomp/stompjs prints; it comes back by itself."""
        topic = f"/topic/job/{job_id}"
        async with stompjs(topic, user.token, user.url, sockjs=self.way == "sockjs") as client:
            while True:
                line = await client.next_line()
                assert line["event"] != "error" or line["reason"] == "STOPPING", line
                self.sessions += line["event"] == "connected"
                if line["event"] == "message":
                    self.note(line)
                    if line["kind"] == "snapshot" and line["photoId"] is None:  # the job is last
                        self.snapshots += 1
                        self.ready.set()


@asynccontextmanager
async def watching(
    user: ApiUser, job_id: str, status: str, *ways: str
) -> AsyncIterator[list[Watcher]]:
    """Open a client for each way, one after the other; end them after the block.

    A client that fails ends the block.
    """
    watchers = [Watcher(way, status) for way in ways]
    async with asyncio.TaskGroup() as group:
        tasks = []
        for each in watchers:
            read = each.read_events if each.way == "sse" else each.read_stomp
            tasks.append(group.create_task(read(user, job_id)))
            await each.ready.wait()
        yield watchers
        for task in tasks:
            task.cancel()
