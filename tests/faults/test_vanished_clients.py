"""Fault 17: clients that vanish, trickle or abandon their uploads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_backends.redis.client.connection import open_redis
from sluice_backends.redis.ledger.ledger import RedisLedger, open_redis_ledger
from sluice_backends.redis.monitoring import open_redis_monitor
from sluice_backends.redis.options import RedisOptions
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ports import Backlog
from support.calls import CHUNK, chunks_of, put
from support.deployments import Services
from support.fleet import channel_to, fleet, until
from support.network_faults import Faults, Way
from support.proxy import FaultProxy
from support.wire import Chunk, WireClient

QUICK_NOTICE = {
    "SLUICE_THROTTLE__CHUNK_STALL_SECONDS": "3",
    "SLUICE_GRPC__KEEPALIVE_SECONDS": "2",
    "SLUICE_GRPC__KEEPALIVE_TIMEOUT_SECONDS": "2",
}
SLOT_SECONDS = 60.0


Break = Callable[[FaultProxy], Awaitable[None]]


async def vanishes(line: FaultProxy) -> None:
    """Drop all packets in both directions."""
    line.both(Faults(stalled=True))


async def trickles(line: FaultProxy) -> None:
    line.up = Faults(bytes_per_second=1, slice_bytes=1)


async def hears_nothing(line: FaultProxy) -> None:
    """Make the connection half-open: stall the intake's responses."""
    line.down = Faults(stalled=True)


async def half_closes(line: FaultProxy) -> None:
    line.half_close(Way.UP)


OTHER_FAULTS = (trickles, hears_nothing, half_closes)


@asynccontextmanager
async def ledger_of(services: Services) -> AsyncIterator[RedisLedger]:
    options = RedisOptions(services.redis.url)
    async with (
        open_redis(options) as clients,
        open_redis_monitor(clients, options) as monitor,
        open_redis_ledger(clients, LedgerOptions(), options, monitor) as ledger,
    ):
        yield ledger


async def send_half_a_chunk(line: FaultProxy, upload_id: str, chunk: Chunk) -> asyncio.Task[None]:
    """Send half a chunk on a stream through `line`; keep the stream open until it is cancelled."""
    sent = asyncio.Event()

    async def stream() -> None:
        async with channel_to(line.address) as channel:
            call = WireClient(channel).intake.UploadStream()  # type: ignore[call-arg]
            header = pb.ChunkHeader(upload_id=upload_id, number=chunk.number, size=len(chunk.data))
            await call.write(
                pb.UploadStreamRequest(header=header, data=chunk.data[: len(chunk.data) // 2])
            )
            sent.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stream())
    await asyncio.wait_for(sent.wait(), 10)
    return task


@pytest.mark.row(17)
@pytest.mark.parametrize(
    "fault",
    [vanishes, *(pytest.param(each, marks=pytest.mark.slow_fault) for each in OTHER_FAULTS)],
)
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(QUICK_NOTICE, id="quick"),
        pytest.param({}, id="defaults", marks=pytest.mark.slow_fault),
    ],
)
async def test_slot_of_a_vanished_client_is_freed(
    services: Services, tmp_path: Path, settings: Mapping[str, str], fault: Break
) -> None:
    """Row 17: within 60 s its stream, its connection and its room in the budget are free, and the
    upload can be resumed."""
    chunks = chunks_of(3, seed=7)
    async with (
        fleet(services, tmp_path, settings) as here,
        ledger_of(services) as ledger,
    ):
        (intake,) = here.intakes
        host, _, port = intake.address.rpartition(":")
        opened = await here.wire.initiate("gone", chunk_size=CHUNK)
        await put(here.wire, opened.upload_id, chunks[0])
        process = psutil.Process(intake.pid)

        def connections() -> int:
            return sum(
                each.status == psutil.CONN_ESTABLISHED and each.laddr.port == int(port)
                for each in process.net_connections("tcp")
            )

        async def reserved() -> int:
            backlog: Backlog = await ledger.backlog()
            return backlog.reserved_bytes

        before = connections()
        async with FaultProxy(host, int(port)) as line:
            client = await send_half_a_chunk(line, opened.upload_id, chunks[1])

            async def is_half_received() -> bool:
                return await reserved() == CHUNK and connections() > before

            await until(is_half_received, 10, "the chunk has its room")
            await fault(line)

            async def free() -> bool:
                return await reserved() == 0

            took = await until(free, SLOT_SECONDS, "the room is free again")
            if fault is not trickles:
                # A client that still sends loses its stream but keeps its connection.
                left = SLOT_SECONDS - took
                await until(lambda: connections() <= before, left, "the connection is closed")
            assert not [key for key in services.redis.all_keys() if ":staging:" in key]
            await here.wire.send_stream(opened.upload_id, chunks[1:])
            client.cancel()
            line.reset()
            await asyncio.gather(client, return_exceptions=True)
        await here.judge()


@pytest.mark.row(17)
@pytest.mark.slow_fault
async def test_abandoned_upload_expires_and_is_swept(services: Services, tmp_path: Path) -> None:
    """Row 17: the upload can be resumed until it expires; then no part of it is left."""
    lifetimes = {
        **QUICK_NOTICE,
        "SLUICE_LIFETIMES__IDLE_SECONDS": "8",
        "SLUICE_LIFETIMES__EXPIRY_GRACE_SECONDS": "1",
        "SLUICE_LIFETIMES__CLEANUP_AGAIN_SECONDS": "1",
        "SLUICE_LIFETIMES__FORGET_AFTER_SECONDS": "2",
    }
    chunks = chunks_of(10, seed=8)
    async with fleet(services, tmp_path, lifetimes) as here:
        opened = await here.wire.initiate("never back", chunk_size=CHUNK)
        # One part is stored, so its multipart upload must be aborted too.
        await here.wire.send_stream(opened.upload_id, chunks[:9])
        host, _, port = here.intakes[0].address.rpartition(":")
        async with FaultProxy(host, int(port)) as line:
            client = await send_half_a_chunk(line, opened.upload_id, chunks[9])
            await vanishes(line)

            async def state() -> int:
                return int((await here.wire.status(opened.upload_id)).state)

            async def expired() -> bool:
                return await state() == pb.UPLOAD_STATE_EXPIRED

            assert await state() == pb.UPLOAD_STATE_UPLOADING
            await until(expired, 30, "it expires")
            client.cancel()
            line.reset()
            await asyncio.gather(client, return_exceptions=True)
        await here.judge()
        await asyncio.to_thread(services.assert_nothing_is_left, 0)

        def is_purged() -> bool:
            return not [key for key in services.redis.all_keys() if opened.upload_id in key]

        await until(is_purged, 30, "no key of it is left")
