"""Slow clients: they hold only the room of sent bytes and block no others (rules 9 and 11)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_core.errors import ResourceExhausted
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.model import MIB
from sluice_intake.chunks import stalls
from sluice_intake.chunks.room import OPENING_BYTES, room_for
from sluice_intake.chunks.stalls import StallClock
from sluice_intake.options import IntakeOptions
from sluice_intake.rpc.permits import BytePermits, Owner
from sluice_intake.rpc.servicer import _StreamResponseWriter
from support.intake import Answered, Intake, block, header, read_all, refusal, running_intake
from support.part_worker import working_for

BUDGET = 16 * MIB
SMALL = LedgerOptions(budget_bytes=BUDGET, tenant_budget_bytes=BUDGET, upload_budget_bytes=BUDGET)
QUICK = IntakeOptions(ledger=SMALL, room_seconds=0.1)


@asynccontextmanager
async def announced(intake: Intake, count: int, size: int) -> AsyncIterator[list[Any]]:
    """Open `count` streams that have each announced a chunk and sent one byte of it."""
    calls = []
    for _ in range(count):
        upload = await intake.initiate(chunk_size=size)
        call = intake.stream()
        await call.write(header(upload.upload_id, 0, size))
        await call.write(block(b"x"))
        calls.append(call)
    try:
        yield calls
    finally:
        for call in calls:
            call.cancel()


async def reserved(intake: Intake) -> int:
    return (await intake.ledger.backlog()).reserved_bytes


# ------------------------------------------------------------------ rule 9: room


def test_room_follows_what_has_arrived() -> None:
    size = 64 * MIB
    assert room_for(0, size) == OPENING_BYTES
    assert room_for(0, 10) == 10
    for arrived in (1, 1000, MIB, 20 * MIB, 63 * MIB, size):
        held = room_for(arrived, size)
        assert arrived <= held <= min(size, max(OPENING_BYTES, 4 * arrived, 0))
        assert held <= max(OPENING_BYTES, arrived + 8 * MIB)


@pytest.mark.rule(9)
async def test_announced_chunks_do_not_block_others() -> None:
    """64 streams announce 64 MiB each with a budget of 16 MiB and send one byte each."""
    async with running_intake(QUICK) as intake, announced(intake, 64, 64 * MIB):
        await until_reserved(intake, 64 * OPENING_BYTES)
        async with asyncio.timeout(30):
            for _ in range(3):
                upload = await intake.initiate()
                await intake.send(upload.upload_id, 0, b"good")
                answered = await intake.send_stream(_chunk(upload.upload_id, 1, 4 * MIB))
                assert (answered.error, answered.throttled, answered.numbers) == (None, [], [1])
                await intake.abort(upload.upload_id)


@pytest.mark.rule(9)
async def test_slow_chunk_releases_unused_room() -> None:
    async with running_intake(QUICK) as intake:
        upload = await intake.initiate(chunk_size=16 * MIB)
        call = intake.stream()
        await call.write(header(upload.upload_id, 0, 16 * MIB))
        await call.write(block(bytes(MIB)))
        await until_reserved(intake, MIB + OPENING_BYTES)  # 4 MiB at first
        call.cancel()
        await until_reserved(intake, 0)


@pytest.mark.rule(9)
async def test_a_slow_chunk_outlives_its_reservation_time() -> None:
    """Its bytes always have a reservation, which is renewed."""
    options = IntakeOptions(
        ledger=LedgerOptions(
            budget_bytes=BUDGET,
            tenant_budget_bytes=BUDGET,
            upload_budget_bytes=BUDGET,
            reservation_seconds=0.6,
        ),
        room_seconds=0.1,
    )
    async with running_intake(options) as intake:
        upload = await intake.initiate(chunk_size=2 * MIB)
        call, answered = intake.stream(), Answered()
        await call.write(header(upload.upload_id, 0, 2 * MIB))
        await call.write(block(bytes(MIB)))
        loop = asyncio.get_running_loop()
        began, seen = loop.time(), []
        while loop.time() - began < 1.5:  # real time on purpose: the duration is under test
            await asyncio.sleep(0.05)
            seen.append(await reserved(intake))
        assert min(seen[2:]) >= MIB
        await call.write(block(bytes(MIB)))
        await call.done_writing()
        assert await read_all(call, answered) is None
        assert answered.numbers == [0]
        assert await reserved(intake) == 0


@pytest.mark.rule(9)
async def test_staged_bytes_never_exceed_budget_and_reserve() -> None:
    """Half-received chunks hold their room, so further chunks are delayed."""
    ledger = LedgerOptions(
        budget_bytes=4 * MIB,
        tenant_budget_bytes=4 * MIB,
        upload_budget_bytes=64 * MIB,
        max_chunk_bytes=2 * MIB,
    )
    options = IntakeOptions(ledger=ledger, room_seconds=0.1, default_part_bytes=5 * MIB)
    async with running_intake(options) as intake:
        upload = await intake.initiate(chunk_size=2 * MIB)
        calls = []
        for number in range(10, 20):
            call = intake.stream()
            await call.write(header(upload.upload_id, number, 2 * MIB))
            calls.append((call, asyncio.create_task(call.write(block(bytes(MIB))))))
        answered = Answered()
        async with asyncio.timeout(20):
            while not answered.throttled:
                answered.add(await calls[-1][0].read())
        backlog = await intake.ledger.backlog()
        assert backlog.reserved_bytes + backlog.queued_bytes <= 4 * MIB
        for call, writing in calls:
            call.cancel()
            writing.cancel()
        await until_reserved(intake, 0)


class Clock:
    """A manual clock of the stall watch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(stalls, "time", self)

    def monotonic(self) -> float:
        return self.now


def test_a_client_below_the_fair_rate_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    stall = StallClock(30.0, 16 * 1024, 256 * 1024)
    for _ in range(40):  # 30 KB/s
        stall.start_waiting()
        clock.now += 1.0
        stall.received(30_000)
        assert not stall.is_slow()
    for _ in range(31):  # 2 KB/s: not stalled, but slow
        stall.start_waiting()
        clock.now += 1.0
        stall.received(2_000)
        assert stall.seconds_left() > 0
    assert stall.is_slow()


@pytest.mark.rule(9)
@pytest.mark.parametrize("budget_bytes", [4 * MIB, 1024 * MIB], ids=["deployment", "tenant"])
async def test_a_slow_chunk_ends_when_others_need_its_room(
    budget_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The full bound may be that of the deployment, or only that of their tenant."""
    clock = Clock(monkeypatch)
    ledger = LedgerOptions(
        budget_bytes=budget_bytes,
        tenant_budget_bytes=4 * MIB,
        upload_budget_bytes=64 * MIB,
        max_chunk_bytes=4 * MIB,
    )
    options = IntakeOptions(
        ledger=ledger, room_seconds=0.1, default_part_bytes=5 * MIB, chunk_stall_seconds=30.0
    )
    async with running_intake(options) as intake:
        slow, other = (
            await intake.initiate(chunk_size=4 * MIB),
            await intake.initiate(chunk_size=4 * MIB),
        )
        call, answered = intake.stream(), Answered()
        await call.write(header(slow.upload_id, 20, 4 * MIB))
        for _ in range(3):
            await call.write(block(bytes(MIB)))
        await until_reserved(intake, 3 * MIB + OPENING_BYTES)
        clock.now += 31.0
        await call.write(block(bytes(20_000)))  # enough not to be stalled
        reading = asyncio.create_task(read_all(call, answered))
        waits = intake.stream()
        await waits.write(header(other.upload_id, 20, 4 * MIB))
        writing = asyncio.create_task(waits.write(block(bytes(MIB))))
        clock.now += 5.0
        async with asyncio.timeout(20):
            error = await reading
        assert error is not None
        assert (error.code, error.reason) == ("DEADLINE_EXCEEDED", "CHUNK_STALLED")
        await writing
        waits.cancel()


@pytest.mark.rule(2, 9)
async def test_duplicates_beyond_the_budget_stage_nothing() -> None:
    ledger = LedgerOptions(
        budget_bytes=4 * MIB, tenant_budget_bytes=4 * MIB, upload_budget_bytes=8 * MIB
    )
    async with running_intake(IntakeOptions(ledger=ledger)) as intake:
        upload = await intake.initiate(chunk_size=4 * MIB)
        await intake.send(upload.upload_id, 7, bytes(4 * MIB))
        for _ in range(2):
            answered = await intake.send_stream(_chunk(upload.upload_id, 7, 4 * MIB))
            assert (answered.error, answered.numbers) == (None, [7])
        assert await reserved(intake) == 0
        wrong = _chunk(upload.upload_id, 7, 4 * MIB, b"y")
        error = (await intake.send_stream(wrong)).error
        assert error is not None
        assert error.reason == "CHUNK_CONFLICT"


@pytest.mark.rule(9)
async def test_many_fast_streams_share_a_small_budget() -> None:
    """Half-received chunks of more streams than fit into the budget do not deadlock."""
    ledger = LedgerOptions(
        budget_bytes=12 * MIB,
        tenant_budget_bytes=12 * MIB,
        upload_budget_bytes=64 * MIB,
        max_chunk_bytes=8 * MIB,
    )
    options = IntakeOptions(ledger=ledger, default_part_bytes=8 * MIB, budget_stall_seconds=60.0)
    async with running_intake(options) as intake, working_for(intake):
        uploads = [await intake.initiate(f"{n}", chunk_size=8 * MIB) for n in range(12)]
        async with asyncio.timeout(120):
            answers = await asyncio.gather(
                *(intake.send_stream(_chunk(one.upload_id, 0, 8 * MIB)) for one in uploads)
            )
        assert [answered.error for answered in answers] == [None] * 12
        assert [answered.numbers for answered in answers] == [[0]] * 12


# ------------------------------------------------------------------ rule 11: permits


@pytest.mark.rule(11)
async def test_slow_unary_callers_make_room_for_others() -> None:
    """Four messages that do not arrive hold all permits, and other calls still succeed."""
    options = IntakeOptions(
        max_unary_message_bytes=MIB,
        unary_budget_bytes=4 * MIB,
        unary_permit_wait_seconds=20.0,
        unary_read_seconds=60.0,
        unary_yield_seconds=0.1,
    )
    async with running_intake(options) as intake:
        upload = await intake.initiate()
        never = asyncio.Event()

        async def held() -> AsyncIterator[bytes]:
            await never.wait()
            yield b""

        calls = [intake.raw("UploadChunk")(held()) for _ in range(4)]
        slow = [asyncio.create_task(refusal(call)) for call in calls]
        async with asyncio.timeout(10):
            for number in range(8):
                await intake.send(upload.upload_id, number, b"x")
            done, _ = await asyncio.wait(slow, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            error = one.result()
            assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "UNARY_BUSY")
            assert error.retry_after_seconds is not None
        for call in calls:
            call.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


@pytest.mark.rule(11)
async def test_reader_is_not_revoked_without_waiters() -> None:
    permits = BytePermits(10)
    permits.yield_seconds = 0.01
    async with permits.hold(10, 5.0, Owner("a", "1")) as permit, permit.reading(5.0):
        await asyncio.sleep(0.1)  # ten times `yield_seconds`
        assert not permit.is_revoked


@pytest.mark.rule(11)
async def test_the_connection_that_holds_most_yields_first() -> None:
    permits = BytePermits(3)
    permits.yield_seconds = 0.05
    revoked: list[str] = []
    ready = asyncio.Barrier(4)

    async def read_slowly(connection: str) -> None:
        try:
            async with (
                permits.hold(1, 5.0, Owner("a", connection)) as permit,
                permit.reading(5.0),
            ):
                await ready.wait()
                await asyncio.Event().wait()
        except ResourceExhausted:
            revoked.append(connection)

    tasks = [asyncio.create_task(read_slowly(name)) for name in ("one", "many", "many")]
    await ready.wait()
    # Only readers that have taken that long may lose their permit: here all have.
    await asyncio.sleep(2 * permits.yield_seconds)
    async with permits.hold(1, 5.0, Owner("a", "honest")):
        assert revoked == ["many"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert permits.free_bytes == 3


@pytest.mark.rule(11)
async def test_connection_that_delayed_others_is_served_last() -> None:
    permits = BytePermits(1)
    permits.yield_seconds = 0.02
    order: list[str] = []

    async def take(connection: str) -> None:
        async with permits.hold(1, 5.0, Owner("a", connection)):
            order.append(connection)

    async def slow() -> None:
        async with permits.hold(1, 5.0, Owner("a", "slow")) as permit, permit.reading(5.0):
            await asyncio.Event().wait()

    holding = asyncio.create_task(slow())
    await asyncio.sleep(0)
    await take("first")
    with pytest.raises(ResourceExhausted):
        await holding
    async with asyncio.TaskGroup() as group, permits.hold(1, 5.0):
        group.create_task(take("slow"))
        await asyncio.sleep(0)
        group.create_task(take("fresh"))
        await asyncio.sleep(0)
    assert order == ["first", "fresh", "slow"]


# ------------------------------------------------------------------ unread responses


async def test_stream_with_unread_responses_fails() -> None:
    """The stream must not keep its chunk's room behind responses that its client does not read."""

    class Stuck:
        async def write(self, _message: object) -> None:
            await asyncio.Event().wait()

    stuck: Any = Stuck()
    with pytest.raises(Exception, match="ANSWERS_STALLED"):
        await _StreamResponseWriter(stuck, 0.05).stored(1, 1)


async def until_reserved(intake: Intake, wanted: int) -> None:
    async with asyncio.timeout(20):
        while await reserved(intake) != wanted:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.02)


def _chunk(
    upload_id: str, number: int, size: int, byte: bytes = b"\0"
) -> list[pb.UploadStreamRequest]:
    blocks = [block(byte * MIB) for _ in range(size // MIB)]
    return [header(upload_id, number, size), *blocks]
