"""Faults 1 to 4: intake crashes around the Redis write; Redis killed, emptied, full."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_client import Client
from sluice_common.process.crash_points import (
    ENABLE_VARIABLE,
    EXIT_STATUS,
    POINT_VARIABLE,
    CrashPoint,
)
from support.calls import (
    CHUNK,
    MIB,
    Refusal,
    available,
    chunks_of,
    put,
    put_with_retries,
    refusal_in,
    refusal_of,
    slow_line,
)
from support.deployments import Services
from support.fleet import DRIVE, channel_to, fleet, resending, running, until
from support.network_faults import Faults
from support.processes import ServiceProcess
from support.proxy import FaultProxy
from support.redis_server import RedisServer
from support.wire import WireClient

UNAVAILABLE = Refusal(grpc.StatusCode.UNAVAILABLE, "REDIS_UNAVAILABLE")
LOST = Refusal(grpc.StatusCode.NOT_FOUND, "UPLOAD_LOST")
DETECTION_SECONDS = 10.0


@contextmanager
def backends(folder: Path, *redis: str) -> Iterator[Services]:
    """Run services whose Redis has these settings."""
    with RedisServer(*redis) as server:
        yield Services(folder, server)


# -- row 1


@pytest.mark.row(1)
@pytest.mark.parametrize(
    ("point", "is_in"),
    [
        pytest.param(CrashPoint.BEFORE_ACCEPT_CHUNK, False, marks=pytest.mark.slow_fault),
        (CrashPoint.AFTER_ACCEPT_CHUNK, True),
    ],
)
async def test_chunk_of_a_dead_intake_is_resent_and_stored_once(
    tmp_path: Path, point: CrashPoint, is_in: bool
) -> None:
    """Row 1: the intake dies before or after the write to Redis, and the response is lost."""
    chunks = chunks_of(9, seed=1)
    with backends(tmp_path) as services:
        async with fleet(services, tmp_path) as here, AsyncExitStack() as stack:
            settings = {
                **here.settings, ENABLE_VARIABLE: "1", POINT_VARIABLE: point.value
            }  # fmt: skip
            dying = ServiceProcess("sluice_intake", tmp_path, settings)
            await stack.enter_async_context(running(dying))
            doomed = WireClient(await stack.enter_async_context(channel_to(dying.address)))

            opened = await here.wire.initiate("one", chunk_size=CHUNK)
            await here.wire.send_stream(opened.upload_id, chunks[:4])
            refused = await refusal_of(put(doomed, opened.upload_id, chunks[4]))
            assert refused.code is grpc.StatusCode.UNAVAILABLE
            assert await asyncio.to_thread(dying.wait, 10) == EXIT_STATUS

            status = await here.wire.status(opened.upload_id)
            assert status.received_chunks == (5 if is_in else 4)
            again = await put(here.wire, opened.upload_id, chunks[4])
            assert again.duplicate == is_in
            assert again.received_bytes == 5 * CHUNK
            await here.wire.send_stream(opened.upload_id, chunks[5:])
            await here.judge()


@pytest.mark.row(1)
@pytest.mark.slow_fault
async def test_upload_survives_repeated_intake_kills(tmp_path: Path) -> None:
    """Row 1: killed at arbitrary moments, five times in one upload."""
    source = tmp_path / "source"
    source.write_bytes(random.Random(2).randbytes(24 * MIB))
    with backends(tmp_path) as services:
        async with (
            fleet(services, tmp_path) as here,
            slow_line(here.address, 8 * MIB) as line,
            Client(line.address) as client,
            asyncio.TaskGroup() as group,
        ):
            done = group.create_task(
                client.upload(source, drive=DRIVE, path="killed", chunk_size=CHUNK)
            )
            for kills in range(1, 6):
                await here.acknowledges(3 * kills)
                await asyncio.to_thread(here.intakes[0].kill)
                await asyncio.to_thread(here.intakes[0].start)
            assert (await done).restarts == 0
            await here.judge()


# -- row 2 (power cuts: test_service_power_cut.py)


@pytest.mark.row(2)
async def test_killed_redis_is_unavailable_then_loses_nothing(tmp_path: Path) -> None:
    """Row 2, class `fsync`: Redis is killed and restarted: UNAVAILABLE meanwhile, nothing is lost.
    (With `everysec` a kill may lose as much as a power cut: test_power_cut.py.)"""
    source = tmp_path / "source"
    source.write_bytes(random.Random(3).randbytes(16 * MIB))
    with backends(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as services:
        async with (
            fleet(services, tmp_path, {"SLUICE_DURABILITY": "fsync"}) as here,
            slow_line(here.address, 4 * MIB) as line,
            Client(line.address) as client,
            asyncio.TaskGroup() as group,
        ):
            done = group.create_task(
                client.upload(source, drive=DRIVE, path="killed", chunk_size=CHUNK)
            )
            await here.acknowledges(4)
            upload_id = next(iter(here.oracle.observations.uploads))
            for _ in range(2):
                services.redis.kill()
                assert await refusal_of(here.wire.status(upload_id)) == UNAVAILABLE
                before = here.acknowledged
                await asyncio.to_thread(services.redis.start)
                await here.acknowledges(before + 2)
            assert (await done).restarts == 0
            await here.judge()


@pytest.mark.row(2)
@pytest.mark.slow_fault
async def test_hanging_redis_is_unavailable(tmp_path: Path) -> None:
    """Row 2: while Redis hangs, calls fail with UNAVAILABLE in bounded time, and then resume."""
    chunks = chunks_of(6, seed=4)
    settings = {"SLUICE_REDIS__OPERATION_TIMEOUT_SECONDS": "2"}
    with backends(tmp_path) as services:
        async with fleet(services, tmp_path, settings) as here:
            opened = await here.wire.initiate("hangs", chunk_size=CHUNK)
            await here.wire.send_stream(opened.upload_id, chunks[:3])
            services.redis.pause()
            try:
                async with asyncio.timeout(8):
                    refused = await refusal_of(put(here.wire, opened.upload_id, chunks[3]))
            finally:
                services.redis.resume()
            assert refused == UNAVAILABLE
            # Redis may execute the command when it resumes; the resent chunk is stored once.
            await here.wire.send_stream(opened.upload_id, chunks[3:])
            await here.judge()


# -- row 3


def emptied(redis: RedisServer) -> None:
    redis.flush()


def replaced(redis: RedisServer) -> None:
    """Restart Redis empty at the same address."""
    redis.kill()
    redis.start()


LOSES = {"SLUICE_SWEEPER__INTENT_AGE_SECONDS": "3"}
"""The sweeper finds the stored objects of a lost upload by their intents (rule 13)."""


@pytest.mark.row(3)
@pytest.mark.parametrize("loses", [emptied, pytest.param(replaced, marks=pytest.mark.slow_fault)])
async def test_uploads_lost_by_redis_are_restarted_by_the_sdk(tmp_path: Path, loses: Any) -> None:
    """Row 3: FLUSHALL, or an empty Redis in its place."""
    source = tmp_path / "source"
    source.write_bytes(random.Random(5).randbytes(28 * MIB))
    with backends(tmp_path) as services:
        async with (
            fleet(services, tmp_path, LOSES) as here,
            slow_line(here.address, 6 * MIB) as line,
            Client(line.address) as client,
            asyncio.TaskGroup() as group,
        ):
            opened = await here.wire.initiate("forgotten", chunk_size=CHUNK)
            await here.wire.send_unary(opened.upload_id, chunks_of(9, seed=6)[:3])
            done = group.create_task(
                client.upload(source, drive=DRIVE, path="sdk", chunk_size=CHUNK)
            )
            # Enough chunks that some parts are in the object store.
            await here.acknowledges(14)
            await asyncio.to_thread(loses, services.redis)

            async def lost() -> bool:
                return await refusal_of(here.wire.status(opened.upload_id)) == LOST

            assert await until(lost, DETECTION_SECONDS, "the loss is detected") < DETECTION_SECONDS
            late = put(here.wire, opened.upload_id, chunks_of(9, seed=6)[3])
            assert await refusal_of(late) == LOST
            assert (await done).restarts == 1
            await here.judge(may_lose=True)


@pytest.mark.row(3)
@pytest.mark.slow_fault
async def test_failover_to_lagging_replica_reports_missing_chunks(
    tmp_path: Path,
) -> None:
    """Row 3: the promoted replica lacks the last chunks: they are reported as missing, and the
    upload completes once they are resent."""
    chunks = chunks_of(10, seed=7)
    sent_early, sent_late = chunks[:4], chunks[4:8]
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        master = stack.enter_context(RedisServer("--repl-diskless-sync-delay", "0"))
        between = await enter(FaultProxy("127.0.0.1", master.port))
        replica = RedisServer("--replicaof", f"127.0.0.1 {between.port}")
        stack.callback(replica.__exit__, None, None, None)
        await asyncio.to_thread(replica.start)
        # As with Sentinel or a floating address, the same address leads to another server.
        address = await enter(FaultProxy("127.0.0.1", master.port))
        services = Services(tmp_path, master)
        url = f"redis://{address.address}/0"
        here = await enter(fleet(services, tmp_path, {"SLUICE_REDIS__URL": url}))

        opened = await here.wire.initiate("failed over", chunk_size=CHUNK)
        await here.wire.send_stream(opened.upload_id, sent_early)

        def in_step() -> bool:
            with master.client() as client:
                return int(str(client.wait(1, 100))) == 1

        # In a thread: the proxy between the two servers runs on this event loop.
        await until(lambda: asyncio.to_thread(in_step), 20, "the replica is up to date")
        between.both(Faults(stalled=True))
        await here.wire.send_stream(opened.upload_id, sent_late)
        master.kill()
        with replica.client() as client:
            client.replicaof("NO", "ONE")
        services.redis = replica
        address.upstream = ("127.0.0.1", replica.port)
        address.reset()

        await until(
            lambda: available(here.wire, opened.upload_id), DETECTION_SECONDS, "it has taken over"
        )
        status = await here.wire.status(opened.upload_id)
        assert status.received_chunks == len(sent_early)
        await here.wire.send_stream(opened.upload_id, chunks[8:])
        status = await here.wire.status(opened.upload_id)
        assert [(gap.first, gap.last) for gap in status.missing] == [(4, 7)]
        await here.judge(resending(chunks), may_lose=True)
        (noted,) = here.oracle.observations.uploads.values()
        assert noted.lost == {chunk.number for chunk in sent_late}


# -- row 4


@pytest.mark.row(4)
async def test_full_redis_refuses_then_drains_without_eviction(tmp_path: Path) -> None:
    """Row 4: no worker fetches the chunks until Redis is full; then one does."""
    chunks = chunks_of(30, seed=8)
    sources = [tmp_path / f"source{number}" for number in range(2)]
    for number, source in enumerate(sources):
        source.write_bytes(random.Random(number).randbytes(10 * MIB))
    with backends(tmp_path, "--maxmemory", "24mb") as services:
        async with fleet(services, tmp_path) as here:
            (repository,) = here.repositories
            opened = [await here.wire.initiate(f"full {n}", chunk_size=CHUNK) for n in range(2)]
            await asyncio.to_thread(repository.stop)

            refused = None
            for chunk in chunks:
                for upload in opened:
                    try:
                        await put(here.wire, upload.upload_id, chunk)
                    except grpc.aio.AioRpcError as error:
                        refused = error
                        break
                if refused is not None:
                    break
            assert refused is not None, "60 MiB went into a Redis of 24 MiB"
            refusal = refusal_in(refused)
            assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert refusal.retry_after_seconds is not None
            assert refusal.retry_after_seconds > 0
            assert here.acknowledged > 8
            with services.redis.client() as redis:
                info = redis.info()
            assert info["used_memory"] > 0.6 * info["maxmemory"]

            async def takes_no_new_upload() -> bool:
                try:
                    extra = await here.wire.initiate("too much", chunk_size=CHUNK)
                except grpc.aio.AioRpcError as error:
                    refusal = refusal_in(error)
                    return (
                        refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
                        and refusal.retry_after_seconds is not None
                    )
                await here.wire.intake.AbortUpload(pb.AbortUploadRequest(upload_id=extra.upload_id))
                return False

            await until(takes_no_new_upload, DETECTION_SECONDS, "new uploads are refused")
            async with Client(here.address) as client, asyncio.TaskGroup() as group:
                uploads = [
                    group.create_task(
                        client.upload(source, drive=DRIVE, path=source.name, chunk_size=CHUNK)
                    )
                    for source in sources
                ]
                await asyncio.to_thread(repository.start)
            assert all(upload.result().restarts == 0 for upload in uploads)
            for upload in opened:
                received = (await here.wire.status(upload.upload_id)).received_chunks
                for chunk in chunks[received:]:
                    await put_with_retries(here.wire, upload.upload_id, chunk)
            await here.judge()
            with services.redis.client() as redis:
                assert redis.info("stats")["evicted_keys"] == 0
