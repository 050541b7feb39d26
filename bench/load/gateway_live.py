"""Load: photos one after the other, watched by query, SSE and STOMP at once.

python -m bench.load.gateway_live --gateway URL --photo FILE --photos 40
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import uvloop
from websockets.asyncio.client import connect

from bench.latency import Latencies
from bench.load.gateway_client import Gateway, gateway
from bench.load.lifecycle import await_start, report

WAYS: Final = ("query", "sse", "stomp")
_WATCHED: Final = ("PROCESSING", "COMPLETED")
_POLL_SECONDS: Final = 0.02
_LIMIT_SECONDS: Final = 60.0


@dataclass(slots=True)
class Sightings:
    """When each way has shown each state of one photo first (Unix seconds)."""

    photo_id: str
    at: dict[tuple[str, str], float] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def see(self, way: str, message: Mapping[str, Any]) -> None:
        """Note a state. A later one implies the earlier ones: fast changes arrive as one."""
        if message["photoId"] != self.photo_id or message["status"] not in _WATCHED:
            return
        for status in _WATCHED[: _WATCHED.index(message["status"]) + 1]:
            self.at.setdefault((way, status), time.time())
        self.changed.set()

    async def complete(self) -> None:
        """Wait until every way has shown every state."""
        async with asyncio.timeout(_LIMIT_SECONDS):
            while len(self.at) < len(WAYS) * len(_WATCHED):
                self.changed.clear()
                await self.changed.wait()


async def _query(user: Gateway, job_id: str, seen: Sightings) -> None:
    """Poll, each time on a new connection, which leads to another replica. A state counts once two
    answers in a row have it.
    """
    former = ""
    while True:
        job = await user.ok("GET", f"/queries/upload-jobs/{job_id}")
        (photo,) = job["photos"]
        if photo["status"] == former:
            seen.see("query", photo)
        former = photo["status"]
        await asyncio.sleep(_POLL_SECONDS)


async def _read_events(user: Gateway, job_id: str, seen: Sightings, ready: asyncio.Event) -> None:
    path = f"{user.base}/queries/upload-jobs/{job_id}/events"
    async with user.http.get(path, headers={"authorization": f"Bearer {user.token}"}) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            name, _, data = line.decode().partition(": ")
            if name != "data":
                continue
            ready.set()  # the snapshot
            if "photoId" in (message := json.loads(data)):
                seen.see("sse", message)


def _frame(command: str, headers: Mapping[str, str]) -> str:
    lines = [command, *(f"{name}:{value}" for name, value in headers.items())]
    return "\n".join(lines) + "\n\n\0"


async def _read_stomp(user: Gateway, job_id: str, seen: Sightings, ready: asyncio.Event) -> None:
    url = user.base.replace("http", "ws", 1) + "/ws"
    async with connect(url, subprotocols=["v12.stomp"], proxy=None) as socket:  # type: ignore[list-item]
        headers = {"accept-version": "1.2", "host": "sluice", "heart-beat": "0,0"}
        await socket.send(_frame("CONNECT", {**headers, "Authorization": f"Bearer {user.token}"}))
        topic = {"id": "0", "destination": f"/topic/job/{job_id}", "receipt": "heard"}
        await socket.send(_frame("SUBSCRIBE", topic))
        async for data in socket:
            text = data if isinstance(data, str) else data.decode()
            for frame in text.split("\0"):
                head, _, body = frame.lstrip("\n").partition("\n\n")
                command = head.partition("\n")[0]
                if command == "ERROR":
                    raise RuntimeError(f"STOMP: {frame}")
                if command == "RECEIPT":
                    ready.set()
                if command == "MESSAGE":
                    seen.see("stomp", json.loads(body))


@asynccontextmanager
async def _watching(user: Gateway, job_id: str, seen: Sightings) -> AsyncIterator[None]:
    """Watch a job in all ways during the block, which begins once all of them do."""
    events, stomp = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_query(user, job_id, seen)),
            group.create_task(_read_events(user, job_id, seen, events)),
            group.create_task(_read_stomp(user, job_id, seen, stomp)),
        ]
        async with asyncio.timeout(_LIMIT_SECONDS):
            await events.wait()
            await stomp.wait()
        yield
        for task in tasks:
            task.cancel()


async def _one(user: Gateway, content: bytes) -> dict[str, list[float]]:
    """Send a photo; return the delays of each way.

    PROCESSING is timed from before the request that leads to it, COMPLETED from the moment that
    the catalogue has for it (`completedAt`), by the clock of this machine.
    """
    job = await user.create_job([len(content)])
    (item,) = job["items"]
    seen = Sightings(item["photoId"])
    async with _watching(user, job["jobId"], seen):
        await user.put(item, content)
        began = time.time()
        await user.ok("POST", f"/commands/upload/{item['photoId']}/finalize")
        await seen.complete()
    photo = await user.ok("GET", f"/queries/photos/{item['photoId']}")
    since = {
        "PROCESSING": began,
        "COMPLETED": datetime.fromisoformat(photo["completedAt"]).timestamp(),
    }
    return {way: [seen.at[way, status] - since[status] for status in _WATCHED] for way in WAYS}


async def run(options: argparse.Namespace) -> None:
    """Print the delays of each way."""
    content = options.photo.read_bytes()
    delays = {way: Latencies() for way in WAYS}
    async with gateway(options.gateway, reuse=False) as anybody:
        user = await anybody.registered()
        await _one(user, content)
        await await_start()
        for _ in range(options.photos):
            for way, seconds in (await _one(user, content)).items():
                for each in seconds:
                    delays[way].record(each)
        await report({way: found.to_json() for way, found in delays.items()}, linger=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateway", required=True, help="URL of a balancer before two replicas")
    parser.add_argument("--photo", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--in-step", action="store_true", help="always; for bench.processes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    uvloop.run(run(parse()))
