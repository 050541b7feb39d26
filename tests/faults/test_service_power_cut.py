"""Fault 2, power cut of Redis under a running service, by durability class.

The losses of `appendfsync` without a service are tested in test_power_cut.py.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_client import Client
from support.calls import (
    CHUNK,
    MIB,
    Refusal,
    available,
    chunks_of,
    put,
    put_with_retries,
    refusal_of,
    slow_line,
)
from support.deployments import Services
from support.fleet import DRIVE, Fleet, fleet, resending, until
from support.power_cut import PoweredRedis
from support.proxy import FaultProxy
from support.redis_server import RedisServer, replicated

pytestmark = pytest.mark.row(2)

BACK_SECONDS = 15.0
LOSES = {"SLUICE_SWEEPER__INTENT_AGE_SECONDS": "3"}
"""The sweeper finds the stored objects of a lost upload by their intents (rule 13)."""


@contextmanager
def powered(folder: Path, appendfsync: str) -> Iterator[tuple[Services, PoweredRedis]]:
    with PoweredRedis(folder, appendfsync) as redis:
        yield Services(folder, redis), redis


def _offset(redis: RedisServer) -> int:
    """Return the replication offset of a replica."""
    with redis.client() as client:
        return int(client.info("replication")["slave_repl_offset"])


async def cut_power(here: Fleet, redis: PoweredRedis, upload_id: str) -> int:
    """Cut the power, wait for UNAVAILABLE and restart Redis; return the bytes that it lost."""
    lost = redis.cut_power()
    assert await refusal_of(here.wire.status(upload_id)) == Refusal(
        grpc.StatusCode.UNAVAILABLE, "REDIS_UNAVAILABLE"
    )
    await asyncio.to_thread(redis.start)
    return lost


async def test_fsync_keeps_every_acknowledged_chunk(tmp_path: Path) -> None:
    """Row 2, class `fsync`: two power cuts in one upload; no acknowledged chunk is lost."""
    source = tmp_path / "source"
    source.write_bytes(random.Random(1).randbytes(20 * MIB))
    with powered(tmp_path, "always") as (services, redis):
        async with (
            fleet(services, tmp_path, {"SLUICE_DURABILITY": "fsync"}) as here,
            slow_line(here.address, 4 * MIB) as line,
            Client(line.address) as client,
            asyncio.TaskGroup() as group,
        ):
            done = group.create_task(
                client.upload(source, drive=DRIVE, path="fsync", chunk_size=CHUNK)
            )
            await here.acknowledges(3)
            (upload_id,) = here.oracle.observations.uploads
            for _ in range(2):
                await cut_power(here, redis, upload_id)
                await here.acknowledges(here.acknowledged + 3)
            assert (await done).restarts == 0
            await here.judge()


async def test_everysec_power_cut_loss_is_reported_and_resent(
    tmp_path: Path,
) -> None:
    """Row 2, class `memory` with `appendfsync everysec`: the last chunks are lost, the status
    reports them as missing, and the upload completes once they are resent."""
    chunks = chunks_of(12, seed=2)
    with powered(tmp_path, "everysec") as (services, redis):
        async with fleet(services, tmp_path) as here:
            opened = await here.wire.initiate("everysec", chunk_size=CHUNK)
            await here.wire.send_stream(opened.upload_id, chunks[:4])
            sent = 4
            while sent < 10:
                # Right after a sync, so that the cut comes before the next one.
                before = redis.syncs
                await until(lambda seen=before: redis.syncs > seen, 10, "a sync")  # type: ignore[misc]
                before = redis.syncs
                await put(here.wire, opened.upload_id, chunks[sent])
                sent += 1
                if redis.syncs == before:
                    break
            assert await cut_power(here, redis, opened.upload_id) > 0
            await until(
                lambda: available(here.wire, opened.upload_id), BACK_SECONDS, "Redis is back"
            )
            await put(here.wire, opened.upload_id, chunks[11])
            status = await here.wire.status(opened.upload_id)
            lost = {n for gap in status.missing for n in range(gap.first, gap.last + 1)}
            assert sent - 1 in lost
            await here.judge(resending(chunks), may_lose=True)
            (noted,) = here.oracle.observations.uploads.values()
            assert noted.lost


@pytest.mark.slow_fault
@pytest.mark.parametrize("appendfsync", ["no", "everysec"])
async def test_sdk_recovers_from_power_cut_losses(tmp_path: Path, appendfsync: str) -> None:
    """Row 2, class `memory`: whatever the cut loses, even the upload itself, the SDK completes the
    object without help from its caller."""
    source = tmp_path / "source"
    source.write_bytes(random.Random(3).randbytes(20 * MIB))
    with powered(tmp_path, appendfsync) as (services, redis):
        async with (
            fleet(services, tmp_path, LOSES) as here,
            slow_line(here.address, 4 * MIB) as line,
            Client(line.address) as client,
            asyncio.TaskGroup() as group,
        ):
            done = group.create_task(
                client.upload(source, drive=DRIVE, path="healed", chunk_size=CHUNK)
            )
            await here.acknowledges(10)
            (upload_id,) = here.oracle.observations.uploads
            assert await cut_power(here, redis, upload_id) > 0
            assert (await done).size == 20 * MIB
            await here.judge(resending(chunks_of(20, seed=3)), may_lose=True)
            if appendfsync == "no":
                # Nothing was ever synced: the upload and the nonce are gone.
                assert here.oracle.observations.uploads[upload_id].vanished


@pytest.mark.slow_fault
async def test_object_survives_a_ledger_that_lost_its_completion(tmp_path: Path) -> None:
    """Row 2, class `memory`: the ledger loses the completion. The object stays whole: expiring
    the upload in its older state deletes nothing."""
    chunks = chunks_of(10, seed=4)
    short = {
        "SLUICE_LIFETIMES__IDLE_SECONDS": "4",
        "SLUICE_LIFETIMES__EXPIRY_GRACE_SECONDS": "1",
        "SLUICE_LIFETIMES__CLEANUP_AGAIN_SECONDS": "1",
    }
    with powered(tmp_path, "everysec") as (services, redis):
        async with fleet(services, tmp_path, short) as here:
            kept = redis.syncs
            opened = await here.wire.initiate("fell back", chunk_size=CHUNK)
            await here.wire.send_stream(opened.upload_id, chunks)
            # The power cut will restore the ledger to this state.
            await until(lambda: redis.syncs > kept + 1, 10, "the chunks are synced")
            with redis.client() as client:
                client.config_set("appendfsync", "no")
            status = await here.wire.complete(opened.upload_id, len(chunks))
            assert status.state == pb.UPLOAD_STATE_COMPLETED
            assert await cut_power(here, redis, opened.upload_id) > 0
            await until(
                lambda: available(here.wire, opened.upload_id), BACK_SECONDS, "Redis is back"
            )
            restored = await here.wire.status(opened.upload_id)
            assert restored.state == pb.UPLOAD_STATE_UPLOADING
            before = await here.wire.read_sha256(opened.node_id)

            async def expired() -> bool:
                state = (await here.wire.status(opened.upload_id)).state
                return state == pb.UPLOAD_STATE_EXPIRED

            await until(expired, 60, "the restored upload expires")
            await asyncio.to_thread(services.assert_nothing_in_flight)
            assert await here.wire.read_sha256(opened.node_id) == before
            assert services.count_objects() == 1


@pytest.mark.slow_fault
async def test_replicated_failover_keeps_acknowledged_chunks(tmp_path: Path) -> None:
    """Row 2, class `replicated`: the master is lost and a replica takes over. No acknowledged
    chunk is lost, and none is acknowledged while there is no other replica."""
    chunks = chunks_of(14, seed=5)
    settings = {"SLUICE_DURABILITY": "replicated"}
    async with AsyncExitStack() as stack:
        master, heir, spare = stack.enter_context(replicated(replicas=2))
        # As with Sentinel or a floating address, the same address leads to another server.
        address = await stack.enter_async_context(FaultProxy("127.0.0.1", master.port))
        services = Services(tmp_path, master)
        settings["SLUICE_REDIS__URL"] = f"redis://{address.address}/0"
        here = await stack.enter_async_context(fleet(services, tmp_path, settings))
        opened = await here.wire.initiate("replicated", chunk_size=CHUNK)
        await here.wire.send_stream(opened.upload_id, chunks[:6])

        master.kill()
        # The replica with the higher offset takes over, as with Sentinel.
        heir, spare = sorted((heir, spare), key=_offset, reverse=True)
        with heir.client() as client:
            client.replicaof("NO", "ONE")
        services.redis = heir
        address.upstream = ("127.0.0.1", heir.port)
        address.reset()
        await until(lambda: available(here.wire, opened.upload_id), BACK_SECONDS, "it took over")
        assert (await here.wire.status(opened.upload_id)).received_chunks == 6

        refused = await refusal_of(put(here.wire, opened.upload_id, chunks[6]))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "NOT_REPLICATED")
        with spare.client() as client:
            client.replicaof("127.0.0.1", str(heir.port))

        async def acknowledged() -> bool:
            try:
                await put(here.wire, opened.upload_id, chunks[6])
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return False
            return True

        await until(acknowledged, BACK_SECONDS, "the spare has joined")
        for chunk in chunks[7:]:  # a connection to the dead master may still be in the pool
            await put_with_retries(here.wire, opened.upload_id, chunk)
        await here.judge()
