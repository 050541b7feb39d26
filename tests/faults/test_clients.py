"""Faults 13 to 15: concurrent clients of one upload or one path, and races to end it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2 as pb
from support.calls import CHUNK, Refusal, chunks_of, put, refusal_in, refusal_of
from support.deployments import Services
from support.fleet import DRIVE, Fleet, channel_to, fleet
from support.oracle.observations import ENDS
from support.wire import Chunk, WireClient

SMALL = 64 * 1024
CONFLICT = Refusal(grpc.StatusCode.ALREADY_EXISTS, "CHUNK_CONFLICT")


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
