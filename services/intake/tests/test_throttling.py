"""Throttling: a chunk without room is delayed on a stream and refused on a unary call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace

import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.model import MIB
from sluice_intake.chunks import stalls
from sluice_intake.chunks.stalls import StallClock
from sluice_intake.options import IntakeOptions
from sluice_intake.rpc import servicer as rpc
from sluice_intake.rpc.permits import BytePermits
from support.intake import (
    Answered,
    block,
    frames_of,
    header,
    read_all,
    refusal,
    running_intake,
)
from support.part_worker import working_for
from support.sending import forward_all
from support.waiting import until

SMALL_BUDGET = LedgerOptions(
    budget_bytes=6 * MIB,
    tenant_budget_bytes=6 * MIB,
    upload_budget_bytes=6 * MIB,
    max_chunk_bytes=MIB,
    look_ahead_parts=1,
)
QUICK = IntakeOptions(
    ledger=SMALL_BUDGET,
    default_part_bytes=5 * MIB,
    budget_stall_seconds=0.4,
    look_ahead_stall_seconds=0.3,
    unary_budget_wait_seconds=0.2,
)
PATIENT = replace(QUICK, budget_stall_seconds=60.0)
"""The stall timeout exceeds the pauses of a busy machine between two parts."""
LOOK_AHEAD = IntakeOptions(
    ledger=LedgerOptions(look_ahead_parts=1),
    default_part_bytes=5 * MIB,
    look_ahead_stall_seconds=0.5,
)
PIECE = bytes(MIB)


@pytest.mark.rule(10)
async def test_a_unary_chunk_beyond_the_look_ahead_is_refused_at_once() -> None:
    waiting_long = replace(
        LOOK_AHEAD, look_ahead_stall_seconds=60.0, unary_budget_wait_seconds=60.0
    )
    async with running_intake(waiting_long) as intake:
        upload = await intake.initiate()
        for number in range(1, 7):
            await intake.send(upload.upload_id, number, PIECE)
        began = time.monotonic()
        error = await refusal(intake.send(upload.upload_id, 7, PIECE))
        assert time.monotonic() - began < 30
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "LOOKAHEAD_EXCEEDED")
        assert error.metadata["needed_number"] == "0"
        assert error.retry_after_seconds is not None
        await intake.send(upload.upload_id, 0, PIECE)
        await intake.send(upload.upload_id, 7, PIECE)


@pytest.mark.rule(10)
async def test_stream_is_refused_when_needed_chunk_is_behind() -> None:
    async with running_intake(LOOK_AHEAD) as intake:
        upload = await intake.initiate()
        backwards = [f for n in range(9, -1, -1) for f in frames_of(upload.upload_id, n, PIECE)]
        async with asyncio.timeout(60):
            answered = await intake.send_stream(backwards)
        assert answered.error is not None
        assert answered.error.reason == "LOOKAHEAD_EXCEEDED"
        assert answered.error.metadata["needed_number"] == "0"
        assert answered.error.retry_after_seconds is not None
        (throttled,) = answered.throttled  # sent once, regardless of the delay
        assert (throttled.number, throttled.needed_number) == (3, 0)
        assert answered.numbers == [9, 8, 7, 6, 5, 4]


@pytest.mark.rule(5, 10)
async def test_delayed_chunk_resumes_when_needed_chunk_arrives() -> None:
    options = IntakeOptions(
        ledger=LedgerOptions(look_ahead_parts=1),
        default_part_bytes=5 * MIB,
        look_ahead_stall_seconds=60,
    )
    async with running_intake(options) as intake:
        upload = await intake.initiate()
        call, answered = intake.stream(), Answered()
        for number in range(7, 0, -1):
            for frame in frames_of(upload.upload_id, number, PIECE):
                await call.write(frame)
        async with asyncio.timeout(30):
            while not answered.throttled:
                answered.add(await call.read())
        await intake.send(upload.upload_id, 0, PIECE)
        await call.done_writing()
        async with asyncio.timeout(30):
            assert await read_all(call, answered) is None
        assert sorted(answered.numbers) == list(range(1, 8))


@pytest.mark.rule(5, 9)
async def test_stream_is_only_delayed_while_the_budget_moves() -> None:
    async with running_intake(PATIENT) as intake, working_for(intake) as worker:
        upload = await intake.initiate(chunk_size=MIB)
        frames = [f for n in range(30) for f in frames_of(upload.upload_id, n, PIECE)]
        answered = await intake.send_stream(frames)
        assert (answered.error, answered.numbers) == (None, list(range(30)))
        await intake.complete(upload.upload_id, total_chunks=30, wait={"seconds": 60})
        assert len(worker.object_of(upload.upload_id)) == 30 * MIB


@pytest.mark.rule(9)
async def test_stalled_budget_ends_the_stream() -> None:
    async with running_intake(QUICK) as intake:  # no worker stores parts
        upload = await intake.initiate(chunk_size=MIB)
        frames = [f for n in range(30) for f in frames_of(upload.upload_id, n, PIECE)]
        async with asyncio.timeout(60):
            answered = await intake.send_stream(frames)
        assert answered.error is not None
        assert (answered.error.code, answered.error.reason) == ("RESOURCE_EXHAUSTED", "BUDGET_FULL")
        assert answered.error.retry_after_seconds is not None
        throttled = [delayed.number for delayed in answered.throttled]
        assert len(throttled) == len(set(throttled))  # one notification per delayed chunk
        assert throttled[-1] == int(answered.error.metadata["number"])
        assert answered.numbers == list(range(len(answered.numbers)))
        assert (await intake.ledger.backlog()).reserved_bytes == 0


async def test_unary_chunk_is_refused_after_a_short_budget_wait() -> None:
    async with running_intake(QUICK) as intake:
        upload = await intake.initiate(chunk_size=MIB)
        async with asyncio.timeout(60):
            error = None
            for number in range(30):
                began = time.monotonic()
                try:
                    await intake.send(upload.upload_id, number, PIECE)
                except Exception:  # noqa: BLE001 - the error is asserted below
                    error = await refusal(intake.send(upload.upload_id, number, PIECE))
                    break
            assert error is not None
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "BUDGET_FULL")
        assert time.monotonic() - began >= 0.2
        sample = intake.metrics.registry.get_sample_value
        assert sample("sluice_throttled_total", {"reason": "BUDGET_FULL"}) == 2


@pytest.mark.rule(9)
async def test_a_new_upload_is_refused_while_the_budget_is_full() -> None:
    async with running_intake(QUICK) as intake:
        upload = await intake.initiate(chunk_size=MIB)
        await intake.send_stream(
            [f for n in range(30) for f in frames_of(upload.upload_id, n, PIECE)]
        )
        error = await refusal(intake.initiate("another"))
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "BUDGET_FULL")
        assert error.retry_after_seconds is not None


# ------------------------------------------------------------------ clients that stall


STALLING = IntakeOptions(chunk_stall_seconds=0.4, chunk_stall_bytes=1000, unary_read_seconds=0.3)


async def test_client_that_vanishes_in_a_chunk_fails() -> None:
    async with running_intake(STALLING) as intake:
        upload = await intake.initiate()
        call = intake.stream()
        await call.write(header(upload.upload_id, 0, 10_000))
        answered = Answered()
        async with asyncio.timeout(30):
            error = await read_all(call, answered)
        assert error is not None
        assert (error.code, error.reason) == ("DEADLINE_EXCEEDED", "CHUNK_STALLED")
        assert (await intake.ledger.backlog()).reserved_bytes == 0
        assert await intake.chunks.leftovers(-1.0, 10) == []


async def test_client_that_trickles_fails() -> None:
    async with running_intake(STALLING) as intake:
        upload = await intake.initiate()
        call = intake.stream()

        async def trickle() -> AsyncIterator[pb.UploadStreamRequest]:
            yield header(upload.upload_id, 0, 10_000)
            while True:
                yield block(b"x")
                await asyncio.sleep(0.05)

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            trickling = group.create_task(forward_all(call, trickle()))
            error = await read_all(call, Answered())
            trickling.cancel()
        assert error is not None
        assert error.reason == "CHUNK_STALLED"


class Blocks:
    """A manual clock of the stall watch, and a count of the received blocks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.received = 0
        received = StallClock.received

        def counted(clock: StallClock, size: int) -> None:
            received(clock, size)
            self.received += 1

        monkeypatch.setattr(StallClock, "received", counted)
        monkeypatch.setattr(stalls, "time", SimpleNamespace(monotonic=lambda: self.now))

    async def pass_by(self, seconds: float) -> None:
        """Advance the clock and let the stall watch run."""
        self.now += seconds
        await asyncio.sleep(0.2)  # the watch runs four times in `chunk_stall_seconds`


async def test_slow_client_above_the_minimum_rate_succeeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = Blocks(monkeypatch)
    async with running_intake(STALLING) as intake:
        upload = await intake.initiate()
        call, answered = intake.stream(), Answered()
        opening, *blocks = frames_of(upload.upload_id, 0, bytes(8000), block_bytes=1000)
        await call.write(opening)
        for number, frame in enumerate(blocks, start=1):
            await seen.pass_by(0.3)
            await call.write(frame)
            await until(lambda: seen.received == number)  # noqa: B023 - awaited here
        await call.done_writing()
        assert await read_all(call, answered) is None
        assert answered.numbers == [0]


async def test_stream_without_an_open_chunk_may_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Blocks(monkeypatch)
    async with running_intake(STALLING) as intake:
        upload = await intake.initiate()
        call, answered = intake.stream(), Answered()
        for number in (0, 1):
            for frame in frames_of(upload.upload_id, number, b"data"):
                await call.write(frame)
            answered.add(await call.read())
            await seen.pass_by(60.0)
        await call.done_writing()
        assert await read_all(call, answered) is None
        assert answered.numbers == [0, 1]


async def test_unary_chunk_that_does_not_arrive_fails() -> None:
    async with running_intake(STALLING) as intake:

        async def nothing() -> object:
            await asyncio.sleep(60)
            yield b""

        error = await refusal(intake.raw("UploadChunk")(nothing()))
        assert (error.code, error.reason) == ("DEADLINE_EXCEEDED", "CHUNK_STALLED")


@pytest.mark.rule(11)
async def test_unary_bytes_are_capped_before_the_messages_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[BytePermits] = []

    def noted(budget_bytes: int) -> BytePermits:
        made.append(BytePermits(budget_bytes))
        return made[-1]

    monkeypatch.setattr(rpc, "BytePermits", noted)
    options = IntakeOptions(
        max_unary_message_bytes=MIB,
        unary_budget_bytes=2 * MIB,
        unary_permit_wait_seconds=0.2,
        unary_read_seconds=60.0,
    )
    async with running_intake(options) as intake:
        upload = await intake.initiate()
        release = asyncio.Event()

        async def held() -> object:
            await release.wait()
            yield b""

        holding = [intake.raw("UploadChunk")(held()) for _ in range(2)]
        (permits,) = made
        await until(lambda: permits.free_bytes == 0)
        error = await refusal(intake.send(upload.upload_id, 0, b"x"))
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "UNARY_BUSY")
        assert error.retry_after_seconds is not None
        release.set()
        for call in holding:
            await refusal(call)
        await intake.send(upload.upload_id, 0, b"x")


@pytest.mark.rule(11)
@pytest.mark.parametrize("callers", [64])
async def test_many_unary_chunks_at_once_take_turns(callers: int) -> None:
    options = IntakeOptions(unary_budget_bytes=64 * MIB)
    async with running_intake(options) as intake:
        upload = await intake.initiate(chunk_size=MIB)
        await asyncio.gather(*(intake.send(upload.upload_id, n, PIECE) for n in range(callers)))
        assert (await intake.status(upload.upload_id)).received_chunks == callers
