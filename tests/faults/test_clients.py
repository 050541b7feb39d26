"""Faults 13 to 15 and 17: concurrent clients and clients that vanish."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2 as pb
from sluice_backends.redis.client.connection import open_redis
from sluice_backends.redis.ledger.ledger import RedisLedger, open_redis_ledger
from sluice_backends.redis.monitoring import open_redis_monitor
from sluice_backends.redis.options import RedisOptions
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ports import Backlog
from support.calls import CHUNK, Refusal, chunks_of, put, refusal_in, refusal_of
from support.deployments import Services
from support.fleet import DRIVE, Fleet, channel_to, fleet, until
from support.network_faults import Faults, Way
from support.oracle.observations import ENDS
from support.proxy import FaultProxy
from support.redis_server import RedisServer
from support.wire import Chunk, WireClient

SMALL = 64 * 1024
CONFLICT = Refusal(grpc.StatusCode.ALREADY_EXISTS, "CHUNK_CONFLICT")


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with RedisServer() as redis:
        yield Services(tmp_path, redis)


@asynccontextmanager
async def two_clients(here: Fleet) -> AsyncIterator[tuple[WireClient, WireClient]]:
    """Connect two clients to separate intakes, both recorded by the oracle."""
    first, second = here.recorders
    async with channel_to(first.address) as one, channel_to(second.address) as two:
        yield WireClient(one), WireClient(two)


# -- row 13


@pytest.mark.row(13)
async def test_two_clients_of_one_upload_give_the_union(services: Services, tmp_path: Path) -> None:
    """Row 13: duplicates, any order, gaps; at two intakes at once."""
    chunks = chunks_of(24, seed=1)
    shuffled = random.Random(2).sample(chunks, len(chunks))
    async with fleet(services, tmp_path, intakes=2) as here, two_clients(here) as (one, two):
        opened = await one.initiate("union", chunk_size=CHUNK)
        early = [chunk for chunk in shuffled if chunk.number % 3]
        # Both send one third of the upload concurrently; each sends another third alone.
        async with asyncio.TaskGroup() as group:
            group.create_task(one.send_unary(opened.upload_id, early[:12]))
            group.create_task(two.send_unary(opened.upload_id, early[6:]))
        gaps = await refusal_of(two.complete(opened.upload_id, len(chunks), wait_seconds=0))
        assert gaps.code is grpc.StatusCode.FAILED_PRECONDITION
        missing = (await one.status(opened.upload_id)).missing
        assert [(gap.first, gap.last) for gap in missing] == [(n, n) for n in range(0, 24, 3)]
        async with asyncio.TaskGroup() as group:
            group.create_task(one.send_stream(opened.upload_id, chunks))
            group.create_task(two.send_stream(opened.upload_id, chunks))
        first, second = await asyncio.gather(
            one.complete(opened.upload_id, len(chunks)),
            two.complete(opened.upload_id, len(chunks)),
        )
        assert first.state == second.state == pb.UPLOAD_STATE_COMPLETED
        assert first.received_bytes == len(chunks) * CHUNK
        await here.judge()


@pytest.mark.row(13)
@pytest.mark.slow_fault
async def test_conflicting_clients_never_mix_their_bytes(
    services: Services, tmp_path: Path
) -> None:
    """Row 13: for every number one client gets a conflict, and the other's chunk is whole."""
    ours, theirs = chunks_of(16, seed=3), chunks_of(16, seed=4)

    async def send(client: WireClient, upload_id: str, chunks: list[Chunk]) -> set[int]:
        """Send the chunks; return the numbers that conflicted."""
        conflicts = set()
        for chunk in chunks:
            try:
                await put(client, upload_id, chunk)
            except grpc.aio.AioRpcError as error:
                if refusal_in(error) != CONFLICT:
                    raise
                conflicts.add(chunk.number)
        return conflicts

    async with fleet(services, tmp_path, intakes=2) as here, two_clients(here) as (one, two):
        opened = await one.initiate("never mixed", chunk_size=CHUNK)
        mine, yours = await asyncio.gather(
            send(one, opened.upload_id, ours), send(two, opened.upload_id, theirs)
        )
        assert mine | yours == set(range(16))
        assert not mine & yours
        # The oracle checks that the acknowledged bytes of each number are in the object.
        await here.judge()


# -- row 14


MAY_LOSE_THE_RACE = {
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.NOT_FOUND,
}


def _lost_the_race(error: BaseException) -> bool:
    return isinstance(error, grpc.aio.AioRpcError) and error.code() in MAY_LOSE_THE_RACE


@pytest.mark.row(14)
async def test_complete_races_abort_and_a_chunk(services: Services, tmp_path: Path) -> None:
    """Row 14: thirty races at two intakes, in every order: both intakes report the same end."""
    content = [Chunk(0, bytes(SMALL)), Chunk(1, b"\1" * SMALL), Chunk(2, b"\2" * SMALL)]
    async with fleet(services, tmp_path, intakes=2) as here, two_clients(here) as (one, two):

        async def race(turn: int) -> int:
            opened = await one.initiate(f"race {turn}", chunk_size=SMALL)
            upload_id = opened.upload_id
            await one.send_unary(upload_id, content[:2])
            if turn % 2:
                await one.send_unary(upload_id, content[2:])
            steps: list[Awaitable[object]] = [
                one.complete(upload_id, 3, wait_seconds=30),
                two.intake.AbortUpload(pb.AbortUploadRequest(upload_id=upload_id)),
                put(two, upload_id, content[2]),
            ]
            order = turn % 3
            ends = await asyncio.gather(*steps[order:], *steps[:order], return_exceptions=True)
            for error in ends:
                assert not isinstance(error, BaseException) or _lost_the_race(error), error
            # Complete the upload if neither complete nor abort has ended it.
            status = await one.status(upload_id)
            if status.state not in ENDS:
                status = await one.complete(upload_id, 3)
            again = await two.status(upload_id)
            assert status.state == again.state
            assert status.state in (pb.UPLOAD_STATE_COMPLETED, pb.UPLOAD_STATE_ABORTED)
            return int(status.state)

        ends: list[int] = []
        for turn in range(0, 30, 5):
            ends += await asyncio.gather(*(race(each) for each in range(turn, turn + 5)))
        assert set(ends) == {pb.UPLOAD_STATE_COMPLETED, pb.UPLOAD_STATE_ABORTED}
        await here.judge()


@pytest.mark.row(14)
@pytest.mark.slow_fault
async def test_complete_races_expiry(services: Services, tmp_path: Path) -> None:
    """Row 14: uploads are completed around the time at which they expire: one end each."""
    lifetimes = {
        "SLUICE_LIFETIMES__IDLE_SECONDS": "4",
        "SLUICE_LIFETIMES__EXPIRY_GRACE_SECONDS": "0.2",
        "SLUICE_SWEEPER__INTERVAL_SECONDS": "0.2",
    }
    chunk = Chunk(0, b"\3" * SMALL)
    async with (
        fleet(services, tmp_path, lifetimes, intakes=2, repositories=2) as here,
        two_clients(here) as (one, two),
    ):

        async def race(turn: int) -> int:
            opened = await one.initiate(f"late {turn}", chunk_size=SMALL)
            await put(one, opened.upload_id, chunk)
            # From one second before the sweep that expires the upload to one second after it.
            await asyncio.sleep(3.0 + turn * 0.08)
            try:
                state = (await two.complete(opened.upload_id, 1, wait_seconds=30)).state
            except grpc.aio.AioRpcError as error:
                if not _lost_the_race(error):
                    raise
                state = (await two.status(opened.upload_id)).state
            assert (await one.status(opened.upload_id)).state == state
            return int(state)

        ends = set(await asyncio.gather(*(race(turn) for turn in range(40))))
        assert ends == {pb.UPLOAD_STATE_COMPLETED, pb.UPLOAD_STATE_EXPIRED}
        await here.judge()


# -- row 15


@pytest.mark.row(15)
@pytest.mark.parametrize("if_absent", [False, pytest.param(True, marks=pytest.mark.slow_fault)])
async def test_two_uploads_to_one_path(services: Services, tmp_path: Path, if_absent: bool) -> None:
    """Row 15: the last commit wins; with `if_absent` the first one. The object of the loser is
    swept once no address of it can be valid."""
    async with (
        fleet(services, tmp_path, intakes=2, repositories=2) as here,
        two_clients(here) as (one, two),
    ):
        pairs = []
        for turn in range(6):
            opened = await asyncio.gather(
                *(
                    each.initiate(f"path {turn}", chunk_size=SMALL, if_absent=if_absent)
                    for each in (one, two)
                )
            )
            for number, (client, upload) in enumerate(zip((one, two), opened, strict=True)):
                await put(
                    client, upload.upload_id, Chunk(0, bytes([turn, number]) * (SMALL // 2), True)
                )
            pairs.append(opened)
        outcomes = await asyncio.gather(
            *(
                asyncio.gather(one.complete(a.upload_id, 1), two.complete(b.upload_id, 1))
                for a, b in pairs
            )
        )
        for turn, (opened, ends) in enumerate(zip(pairs, outcomes, strict=True)):
            states = sorted(end.state for end in ends)
            expected = pb.UPLOAD_STATE_FAILED if if_absent else pb.UPLOAD_STATE_COMPLETED
            assert states == [pb.UPLOAD_STATE_COMPLETED, expected]
            request = repository_pb2.GetNodeRequest(
                location=repository_pb2.NodePath(drive=DRIVE, path=f"path {turn}")
            )
            live = (await here.wire.repository.GetNode(request)).node
            winners = [
                upload.node_id
                for upload, end in zip(opened, ends, strict=True)
                if end.state == pb.UPLOAD_STATE_COMPLETED
            ]
            assert live.node_id in winners
            if if_absent:
                (loser,) = (end for end in ends if end.state == pb.UPLOAD_STATE_FAILED)
                assert loser.failure_reason == "PATH_EXISTS"
        await here.judge()
        if if_absent:
            await asyncio.to_thread(services.assert_nothing_is_left, 6)
        else:
            assert services.count_objects() == 12


# -- row 17

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
