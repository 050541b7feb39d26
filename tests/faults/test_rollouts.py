"""Fault 18: new releases of every service under load, as Kubernetes rolls them out."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from support.cluster import CALLED, UNCALLED, Cluster, open_cluster
from support.fleet import until
from support.former_release import CURRENT, WITH_GATEWAY, former_release
from support.kubelet import PodSet
from support.steady_load import PhotoLoad, UploadLoad, p99, photo_load, steadily, upload_load
from support.watchers import Watcher, watching

pytestmark = pytest.mark.row(18)

UPLOAD_SECONDS: Final = 1.0
PHOTO_SECONDS: Final = 1.0
MOST_PHOTOS: Final = 900
TIMES_USUAL: Final = 3
WARM_UP_CHUNKS: Final = 60
SETTLED_SECONDS: Final = 120.0
MADE_BY_EACH: Final = 10
"""Connections to a track before the next switch."""
LEASE_SECONDS: Final = 15.0
"""`SLUICE_QUEUE__LEASE_SECONDS`, which the manifests leave as it is."""


@dataclass
class Load:
    """What goes on while pods are replaced, and the times of its acknowledgements."""

    uploads: UploadLoad
    photos: PhotoLoad
    watchers: Sequence[Watcher]
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    @contextmanager
    def during(self) -> Iterator[list[float]]:
        """Yield a list that has the waits of the block once it has ended."""
        before, waits = len(self.uploads.waits), list[float]()
        yield waits
        waits += self.uploads.waits[before:]


@asynccontextmanager
async def under_load(cluster: Cluster) -> AsyncIterator[Load]:
    """Upload by gRPC and over HTTP while the block runs; then check all of it.

    Any upload that fails ends the block. The clients repeat what the SDK and the panel repeat.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        uploads = await enter(upload_load(cluster))
        photos = await enter(photo_load(cluster, MOST_PHOTOS))
        watchers = await enter(watching(photos.user, photos.job_id, "COMPLETED", "sse", "stomp"))
        load = Load(uploads, photos, watchers)
        async with asyncio.TaskGroup() as group:
            group.create_task(steadily(UPLOAD_SECONDS, uploads.upload, load.stop))
            group.create_task(steadily(PHOTO_SECONDS, photos.send, load.stop))
            await uploads.acknowledges(WARM_UP_CHUNKS)  # connections are made, code is loaded
            yield load
            load.stop.set()
        assert {result.restarts for result in uploads.results} == {0}
        await photos.completed(SETTLED_SECONDS)
        for watcher in watchers:
            await until(
                partial(heard_all, watcher, photos),
                SETTLED_SECONDS,
                f"{watcher.way} has heard of every photo",
            )
        await uploads.judge()


def heard_all(watcher: Watcher, photos: PhotoLoad) -> bool:
    followed = {each.photo_id for each in photos.sent if each.job_id == photos.job_id}
    return followed <= watcher.seen.keys()


async def switch_gateways(cluster: Cluster, blue: PodSet) -> None:
    """Send all traffic to today's gateways beside the others, back, and there for good."""
    green = await cluster.deploy("gateway", len(blue.pods), beside=True)
    for now, before in ((green, blue), (blue, green), (green, blue)):
        now.take_over(before)
        made = cluster.services["gateway"].connections.total()
        await until(
            partial(has_made, cluster, made + MADE_BY_EACH), 120, "connections after the switch"
        )
    await blue.scale_in(len(blue.pods))


def has_made(cluster: Cluster, connections: int) -> bool:
    return cluster.services["gateway"].connections.total() >= connections


async def scale_in(load: Load, sets: Sequence[PodSet]) -> None:
    """End a pod of each; its work goes on elsewhere at once, not when its leases end."""
    before = len(load.uploads.took)
    await asyncio.gather(*(pods.scale_in() for pods in sets))
    await load.uploads.acknowledges(100)
    assert max(load.uploads.took[before:]) < LEASE_SECONDS


def report(waits: Mapping[str, Sequence[float]], load: Load) -> None:
    """Print the figures of a run."""
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores, {platform.machine()}, Python {platform.python_version()}")  # noqa: T201
    for name, found in waits.items():
        print(  # noqa: T201
            f"{name}: n={len(found)} p50={1000 * p50(found):.1f} p99={1000 * p99(found):.1f}"
            f" max={1000 * max(found):.0f} ms"
        )
    print(  # noqa: T201
        f"{len(load.uploads.results)} uploads, {len(load.photos.sent)} photos,"
        f" {load.photos.user.repeats} of {len(load.photos.user.waits)} requests repeated,"
        f" p99 of requests {1000 * p99(load.photos.user.waits):.0f} ms,"
        f" sessions {[each.sessions for each in load.watchers]}"
    )


def p50(waits: Sequence[float]) -> float:
    return sorted(waits)[len(waits) // 2]


@pytest.mark.parametrize(
    ("rounds", "pods", "chunks"),
    [
        pytest.param(1, 1, 300, id="once", marks=pytest.mark.timeout(600)),
        pytest.param(
            2, 2, 1500, id="twice", marks=[pytest.mark.slow_fault, pytest.mark.timeout(1500)]
        ),
    ],
)
async def test_rollout_of_every_service_fails_no_upload(
    tmp_path: Path, rounds: int, pods: int, chunks: int
) -> None:
    """Row 18: each pod of a former commit's code is replaced by one of today's, and in the second
    round back; then all traffic of the gateway is switched to other pods. No upload fails, and
    chunks wait at most three times as long as usual.
    """
    former = await asyncio.to_thread(former_release, WITH_GATEWAY, tmp_path)
    async with open_cluster(tmp_path) as cluster:
        migrated = await asyncio.to_thread(cluster.migrate)
        assert migrated.returncode == 0, migrated.stderr
        sets = await cluster.deploy_all(dict.fromkeys((*CALLED, *UNCALLED), pods), former)
        waits: dict[str, Sequence[float]] = {}
        async with under_load(cluster) as load:
            waits["usual"] = await load.uploads.acknowledges(chunks)
            for number in range(rounds):
                release = (CURRENT, former)[number % 2]
                with load.during() as waits[f"to {release.name}"]:
                    for name, each in sets.items():
                        await each.roll(partial(cluster.pod, name, release))
            if pods > 1:
                with load.during() as waits["scale-in"]:
                    await scale_in(load, [sets[name] for name in UNCALLED])
            with load.during() as waits["blue and green"]:
                await switch_gateways(cluster, sets["gateway"])
            waits["usual again"] = await load.uploads.acknowledges(chunks)
        report(waits, load)
    usual = p99([*waits.pop("usual"), *waits.pop("usual again")])
    for name, found in waits.items():
        assert p99(found) <= TIMES_USUAL * usual, name
