"""A release that migrates the catalogue, beside the one before it, and the way back."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

import grpc
import pytest

from sluice.upload.v1 import upload_pb2 as pb
from support.calls import CHUNK, chunks_of, refusal_of
from support.cluster import Cluster, open_cluster
from support.former_release import BEFORE_PHOTOS, CURRENT, Release, former_release
from support.steady_load import DRIVE, UploadLoad, steadily, upload_load

pytestmark = pytest.mark.row(18)

UPLOAD_SECONDS: Final = 1.0
BETWEEN_CHUNKS: Final = 60
NAMES: Final = ("repository-api", "repository-parts", "repository-worker", "intake", "processor")
LAST_OF_FORMER: Final = "0008"
FIRST_OF_CURRENT: Final = "0009"


async def migrate(cluster: Cluster, release: Release) -> str:
    """Run the migrations of a release; return what the job printed."""
    done = await asyncio.to_thread(cluster.migrate, release)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


class Crossing:
    """An upload whose chunks go to one release after the other."""

    def __init__(self, load: UploadLoad, name: str) -> None:
        self._load = load
        self._name = name
        self._chunks = chunks_of(9, seed=len(name))
        self._left = list(self._chunks)
        self.upload_id = ""

    async def go_on(self) -> None:
        """Send three chunks to whatever release answers."""
        if not self.upload_id:
            opened = await self._load.wire.initiate(self._name, drive=DRIVE, chunk_size=CHUNK)
            self.upload_id = opened.upload_id
        now, self._left = self._left[:3], self._left[3:]
        await self._load.wire.send_stream(self.upload_id, now)

    async def complete(self) -> None:
        sent = len(self._chunks) - len(self._left)
        done = await self._load.wire.complete(self.upload_id, sent)
        assert done.state == pb.UPLOAD_STATE_COMPLETED, done


async def is_refused_in_a_newer_format(
    cluster: Cluster, load: UploadLoad, upload: Crossing
) -> None:
    """Mark the record of an upload as one that a later release wrote; put it back afterwards.

    Only that upload is refused, and nothing of it is changed.
    """
    ours = [key for key in cluster.backends.redis.all_keys() if upload.upload_id in key]
    (key,) = (each for each in ours if each.endswith(":state"))
    with cluster.backends.redis.client() as redis:
        before = redis.hgetall(key)
        redis.hset(key, "v", "2")
        request = pb.GetUploadStatusRequest(upload_id=upload.upload_id)
        refusal = await refusal_of(load.wire.intake.GetUploadStatus(request))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INTERNAL, "UNKNOWN_FORMAT")
        redis.hset(key, "v", "1")
        assert redis.hgetall(key) == before


@pytest.mark.timeout(600)
async def test_former_release_runs_on_the_next_schema_and_again(tmp_path: Path) -> None:
    """Expand while the former release works, roll out, and roll back: no upload fails, whichever
    release began, stored or completed it. The former release's job of migrations refuses, and
    changes nothing.
    """
    former = await asyncio.to_thread(former_release, BEFORE_PHOTOS, tmp_path)
    async with open_cluster(tmp_path) as cluster:
        assert LAST_OF_FORMER in await migrate(cluster, former)
        sets = await cluster.deploy_all(dict.fromkeys(NAMES, 1), former)
        async with upload_load(cluster) as load:
            from_former, from_current = Crossing(load, "former"), Crossing(load, "current release")
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(steadily(UPLOAD_SECONDS, load.upload, stop))
                await from_former.go_on()
                await load.acknowledges(BETWEEN_CHUNKS)

                assert FIRST_OF_CURRENT in await migrate(cluster, CURRENT)
                await load.acknowledges(BETWEEN_CHUNKS)

                for name, pods in sets.items():
                    await pods.roll(partial(cluster.pod, name, CURRENT))
                await from_former.go_on()
                await from_current.go_on()
                await load.acknowledges(BETWEEN_CHUNKS)

                for name, pods in sets.items():
                    await pods.roll(partial(cluster.pod, name, former))
                refused = await asyncio.to_thread(cluster.migrate, former)
                assert refused.returncode != 0
                assert "SCHEMA_TOO_NEW" in refused.stderr
                await from_former.go_on()
                await from_current.go_on()
                await load.acknowledges(BETWEEN_CHUNKS)
                stop.set()
            assert {result.restarts for result in load.results} == {0}
            await is_refused_in_a_newer_format(cluster, load, from_former)
            await from_former.complete()
            await from_current.complete()
            await load.judge()
