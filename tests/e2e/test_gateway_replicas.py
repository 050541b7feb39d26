"""Two gateways on Redis, MySQL, S3 and Kafka behind a balancer without sticky sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from math import ceil
from pathlib import Path

import pytest

from support.deployments import Services
from support.keyed_server import NO_RATES, ApiUser, api_user, own_keys
from support.processes import ServiceProcess
from support.round_robin import RoundRobin, round_robin
from support.shared_services import end_to_end_deployment
from support.waiting import metric, until
from support.watchers import Watcher, watching

BEFORE = 30
MEANWHILE = 10
AFTER = 20
VISIBLE_SECONDS = 1.0
"""The bound of docs/live.md."""

Delays = dict[str, float]
"""Seconds from before a command until all clients of a way have seen its change, by way."""


@asynccontextmanager
async def two_gateways(
    folder: Path, balancer: RoundRobin
) -> AsyncIterator[Sequence[ServiceProcess]]:
    """Start them with keys that they share, under the address of the balancer."""
    with end_to_end_deployment(Services.name, folder) as backends:
        settings = {
            **backends.settings,
            **NO_RATES,
            **own_keys(f"http://{balancer.address}"),
            "SLUICE_DATA_DIR": str(folder),
            "SLUICE_GATEWAY__KEYS_FILE": str(folder / "keys.json"),
        }
        replicas = [ServiceProcess("sluice_gateway", folder, settings) for _ in range(2)]
        try:
            for each in replicas:  # the first one makes the tables and the keys
                await asyncio.to_thread(each.start)
            balancer.servers = [each.address for each in replicas]
            yield replicas
        finally:
            for each in replicas:
                await asyncio.to_thread(each.close)


async def sessions_of(replica: ServiceProcess) -> tuple[float, float]:
    """Return the numbers of its open sessions by SSE and by STOMP."""
    name = "sluice_gateway_live_sessions"
    return (
        await metric(replica.metrics_address, name, transport="sse"),
        await metric(replica.metrics_address, name, transport="stomp"),
    )


async def cancelled(user: ApiUser, photo_id: str, watchers: Sequence[Watcher]) -> Delays:
    """Cancel a photo; return the delays. Queries count when each replica has answered one."""
    began = time.monotonic()
    await user.cancel(photo_id)

    async def is_shown() -> bool:
        answers = [await user.call("GET", f"/queries/photos/{photo_id}") for _ in range(2)]
        return all(answer["status"] == "CANCELLED" for answer in answers)

    await until(is_shown)
    delays = {"query": time.monotonic() - began}
    await until(lambda: all(photo_id in each.seen for each in watchers), what="all have heard")
    for each in watchers:
        took = each.seen[photo_id] - began
        delays[each.way] = max(took, delays.get(each.way, 0.0))
    return delays


@pytest.mark.slow
async def test_changes_are_visible_on_every_replica(tmp_path: Path) -> None:
    """One replica is terminated half-way; its clients resume at the other one, and miss nothing.

    It starts two processes on four services, which takes more than ten seconds.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        balancer = await enter(round_robin())
        replicas = await enter(two_gateways(tmp_path, balancer))
        ann = await enter(api_user(f"http://{balancer.address}"))
        job = await ann.create_job(BEFORE + MEANWHILE + AFTER)
        photos = iter([item["photoId"] for item in job["items"]])
        # SockJS asks one replica for its information, and connects to the other one.
        ways = ("sse", "sse", "stomp", "stomp", "sockjs")
        watchers = await enter(watching(ann, job["jobId"], "CANCELLED", *ways))
        held = [await sessions_of(each) for each in replicas]
        assert sorted(held) == [(1, 1), (1, 2)]

        async def cancel(count: int) -> list[Delays]:
            return [await cancelled(ann, next(photos), watchers) for _ in range(count)]

        before = await cancel(BEFORE)
        fuller = replicas[held.index((1, 2))]
        stopping = asyncio.create_task(asyncio.to_thread(fuller.stop))
        meanwhile = await cancel(MEANWHILE)
        assert await stopping == 0
        after = await cancel(AFTER)
        (remaining,) = (each for each in replicas if each is not fuller)
        assert await sessions_of(remaining) == (2, 3)
    assert sum(each.sessions for each in watchers) == len(watchers) + 3, "three have come back"
    assert {each.snapshots for each in watchers} == {1}, "they resume by sequence"
    for when, delays in (("both", before), ("one ends", meanwhile), ("one", after)):
        print(*report(when, delays), sep="\n")  # noqa: T201
    assert slowest(before) < VISIBLE_SECONDS
    assert slowest(after) < VISIBLE_SECONDS


def slowest(found: Sequence[Delays]) -> float:
    return max(seconds for each in found for seconds in each.values())


def report(when: str, found: Sequence[Delays]) -> Iterator[str]:
    """Return p50, p99 and the slowest of each way, in milliseconds."""
    for way in found[0]:
        times = sorted(each[way] * 1000 for each in found)
        p50, p99 = (times[ceil(len(times) * share) - 1] for share in (0.5, 0.99))
        yield f"{when} {way}: n={len(times)} p50={p50:.0f} p99={p99:.0f} max={times[-1]:.0f} ms"
