"""Races of intake streams held at the store, the ledger or admission (rules 1, 5, 6, 9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice_backends.memory.queue import InProcessQueue
from sluice_common.rpc.frames import Frame, Header
from sluice_core.access.principal import Principal
from sluice_core.errors import SluiceError
from sluice_core.ports import (
    Acceptance,
    Admission,
    Block,
    ChunkOffer,
    ChunkStore,
    PartClaim,
    StagedChunk,
    UploadLedger,
)
from sluice_intake.chunks.acceptance import ChunkAcceptor
from sluice_intake.chunks.admission import ChunkAdmission
from sluice_intake.chunks.reception import ChunkReceiver
from sluice_intake.chunks.streaming import StreamHandler
from sluice_intake.drives import DefaultDrives
from sluice_intake.lookup import UploadGuard
from sluice_intake.metrics import IntakeMetrics
from sluice_intake.options import IntakeOptions
from sluice_intake.quotas import UploadRooms
from support.coordination import COORDINATIONS, Coordination, CoordinationFactory
from support.intake import Answered, Intake, frames_of, header, read_all, running_intake
from support.ledgers import LEASE_SECONDS, ROOMY

CHUNK = 64 * 1024
PATIENT = IntakeOptions(ledger=replace(ROOMY, max_chunk_bytes=CHUNK), budget_stall_seconds=30)
ONE_CHUNK = replace(PATIENT, ledger=replace(PATIENT.ledger, budget_bytes=CHUNK))
"""Room for one chunk, besides the reserve."""


class WatchedStore:
    """Chunk store whose appends a test can hold."""

    def __init__(self, store: ChunkStore) -> None:
        self._store = store
        self.staged: list[int] = []
        self.appended: list[int] = []
        self.before_append: dict[int, asyncio.Event] = {}
        self.barrier = asyncio.Barrier(1)
        self.sealing = asyncio.Event()
        self.may_seal = asyncio.Event()
        self.may_seal.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def stage(self, offer: ChunkOffer) -> AbstractAsyncContextManager[StagedChunk]:
        return self._stage(offer)

    @asynccontextmanager
    async def _stage(self, offer: ChunkOffer) -> AsyncIterator[StagedChunk]:
        self.staged.append(offer.number)
        async with self._store.stage(offer) as staged:
            yield WatchedChunk(self, offer, staged)


class WatchedChunk:
    def __init__(self, store: WatchedStore, offer: ChunkOffer, staged: StagedChunk) -> None:
        self._store, self._offer, self._staged = store, offer, staged

    @property
    def token(self) -> str:
        return self._staged.token

    async def append(self, block: Block) -> None:
        await self._store.barrier.wait()
        if (allowed := self._store.before_append.get(self._offer.number)) is not None:
            await allowed.wait()
        await self._staged.append(block)
        self._store.appended.append(self._offer.number)

    async def keep(self) -> None:
        await self._staged.keep()

    async def seal(self) -> None:
        self._store.sealing.set()
        await self._store.may_seal.wait()
        await self._staged.seal()


class WatchedLedger:
    """Ledger whose admissions and accepts a test can hold."""

    def __init__(self, ledger: UploadLedger) -> None:
        self._ledger = ledger
        self.may_admit = asyncio.Event()
        self.may_admit.set()
        self.asked: asyncio.Queue[int] = asyncio.Queue()
        self.refused: asyncio.Queue[int] = asyncio.Queue()
        self.accepting = asyncio.Event()
        self.barrier = asyncio.Barrier(1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def admit_chunk(self, offer: ChunkOffer) -> Admission:
        self.asked.put_nowait(offer.number)
        await self.may_admit.wait()
        admission = await self._ledger.admit_chunk(offer)
        if not admission.granted:
            self.refused.put_nowait(offer.number)
        return admission

    async def accept_chunk(self, offer: ChunkOffer, crc32c: int) -> Acceptance:
        self.accepting.set()
        await self.barrier.wait()
        return await self._ledger.accept_chunk(offer, crc32c)


class WatchedIntake:
    """Running intake with a watched ledger and store."""

    def __init__(self, intake: Intake, pair: Coordination, ledger: Any, store: Any) -> None:
        self.intake = intake
        self.pair = pair
        self.ledger: WatchedLedger = ledger
        self.store: WatchedStore = store

    async def part(self, upload_id: str, number: int) -> bytes:
        """Return the bytes that a worker reads for this part."""
        claim = await self.pair.ledger.claim_part(upload_id, number, "worker", LEASE_SECONDS)
        assert isinstance(claim, PartClaim)
        before = claim.plan.first_chunk - 1
        chunks = await self.pair.ledger.part_chunks(upload_id, claim.plan, before, 100)
        return await self.pair.bytes_of(upload_id, *chunks)


@pytest.fixture(params=list(COORDINATIONS.values()), ids=list(COORDINATIONS))
def factory(request: pytest.FixtureRequest) -> CoordinationFactory:
    made: CoordinationFactory = request.param
    return made


@asynccontextmanager
async def watched_intake(
    factory: CoordinationFactory, folder: Path, options: IntakeOptions
) -> AsyncIterator[WatchedIntake]:
    async with factory(folder, options.ledger) as pair:
        ledger: Any = WatchedLedger(pair.ledger)
        store: Any = WatchedStore(pair.chunks)
        async with running_intake(options, ledger=ledger, chunks=store) as intake:
            yield WatchedIntake(intake, pair, ledger, store)


# ------------------------------------------------------------------ rule 1


@pytest.mark.rule(1)
@pytest.mark.parametrize("streams", [2, 5])
async def test_streams_in_lockstep_do_not_mix_blocks(
    factory: CoordinationFactory, tmp_path: Path, streams: int
) -> None:
    """All senders append their first block together, then their second, and accept together."""
    async with watched_intake(factory, tmp_path, PATIENT) as met:
        upload = await met.intake.initiate(chunk_size=4 * 1024)
        met.store.barrier = asyncio.Barrier(streams)
        met.ledger.barrier = asyncio.Barrier(streams)
        contents = [bytes([65 + number]) * 4 * 1024 for number in range(streams)]
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            sending = [
                group.create_task(
                    met.intake.send_stream(
                        frames_of(upload.upload_id, 0, data, block_bytes=1024, is_last=True)
                    )
                )
                for data in contents
            ]
        answers = [task.result() for task in sending]
        (winner,) = (data for data, answer in zip(contents, answers, strict=True) if answer.numbers)
        errors = [answer.error for answer in answers if answer.error is not None]
        assert [error.reason for error in errors] == ["CHUNK_CONFLICT"] * (streams - 1)
        assert len(met.store.appended) == 4 * streams
        assert await met.part(upload.upload_id, 1) == winner


# ------------------------------------------------------------------ one stream, without a network


class Stream:
    """Passes chunk 0, in 8 blocks, to the intake's code; records the acknowledged numbers."""

    def __init__(self, met: WatchedIntake, upload_id: str) -> None:
        opening = Header(upload_id, 0, 8 * 1024, crc32c=None, is_last=False, force=False)
        blocks = [Frame(None, memoryview(bytes(1024))) for _ in range(8)]
        self.left = [Frame(opening, memoryview(b"")), *blocks]
        self.acknowledged: list[int] = []
        ledger: Any = met.ledger
        store: Any = met.store
        metrics = IntakeMetrics()
        self._streaming = StreamHandler(
            ledger,
            UploadGuard(ledger, DefaultDrives()),
            ChunkReceiver(
                ledger, store, UploadRooms(ledger, DefaultDrives(), step_bytes=1), PATIENT
            ),
            ChunkAcceptor(ledger, store, InProcessQueue(), PATIENT),
            ChunkAdmission(ledger, metrics, PATIENT),
            metrics,
            PATIENT,
        )

    async def serve(self) -> None:
        principal = Principal("default", "tester", frozenset({"tenant:admin"}))
        await self._streaming.serve(principal, self._read, self)

    async def _read(self) -> Frame | None:
        return self.left.pop(0) if self.left else None

    async def accepted(self, acceptance: Acceptance) -> None:
        self.acknowledged.append(acceptance.chunk.number)

    async def stored(self, watermark: int, part_number: int) -> None: ...

    async def throttled(self, number: int, admission: Admission) -> None: ...


async def run_ready_tasks() -> None:
    """Run every ready task as far as it gets without I/O."""
    for _ in range(100):
        await asyncio.sleep(0)


# ------------------------------------------------------------------ rule 6


@pytest.mark.rule(1, 6)
async def test_ack_follows_durable_bytes_and_ledger_commit(
    factory: CoordinationFactory, tmp_path: Path
) -> None:
    async with watched_intake(factory, tmp_path, PATIENT) as met:
        upload = await met.intake.initiate()
        stream = Stream(met, upload.upload_id)
        met.store.may_seal.clear()
        met.ledger.barrier = asyncio.Barrier(2)  # the test is the other one
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(stream.serve())
            await met.store.sealing.wait()
            await run_ready_tasks()
            assert (met.ledger.accepting.is_set(), stream.acknowledged) == (False, [])
            met.store.may_seal.set()
            await met.ledger.accepting.wait()
            await run_ready_tasks()
            assert stream.acknowledged == []
            assert (await met.pair.ledger.get(upload.upload_id)).received_chunks == 0
            await met.ledger.barrier.wait()
        assert stream.acknowledged == [0]
        assert (await met.pair.ledger.get(upload.upload_id)).received_chunks == 1


# ------------------------------------------------------------------ rule 5


@pytest.mark.rule(5)
async def test_no_block_is_read_before_the_header_has_a_permit(
    factory: CoordinationFactory, tmp_path: Path
) -> None:
    async with watched_intake(factory, tmp_path, PATIENT) as met:
        upload = await met.intake.initiate()
        stream = Stream(met, upload.upload_id)
        met.ledger.may_admit.clear()
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(stream.serve())
            assert await met.ledger.asked.get() == 0
            await run_ready_tasks()
            assert (len(stream.left), met.store.staged, met.store.appended) == (8, [], [])
            met.ledger.may_admit.set()
        assert (stream.left, met.store.staged, len(met.store.appended)) == ([], [0], 8)


@pytest.mark.rule(5, 9)
async def test_permit_keeps_its_room_before_the_first_block(
    factory: CoordinationFactory, tmp_path: Path
) -> None:
    """Of two chunks that compete for room, the one whose header came first gets all of it. The
    other one is delayed, stages nothing, and continues once the room is free."""
    async with watched_intake(factory, tmp_path, ONE_CHUNK) as met:
        upload = await met.intake.initiate(chunk_size=CHUNK)
        met.store.before_append[400] = asyncio.Event()  # its blocks arrive, and are not kept yet
        first, second = met.intake.stream(), met.intake.stream()
        answered = Answered()
        async with asyncio.timeout(20):
            await first.write(header(upload.upload_id, 400, CHUNK))
            assert await met.ledger.asked.get() == 400
            for frame in frames_of(upload.upload_id, 800, bytes(CHUNK)):
                await second.write(frame)
            assert await met.ledger.refused.get() == 800
            answered.add(await second.read())
            assert [chunk.number for chunk in answered.throttled] == [800]
            backlog = await met.pair.ledger.backlog()
            assert (backlog.reserved_bytes, backlog.queued_bytes) == (CHUNK, 0)
            assert (met.store.staged, met.store.appended) == ([400], [])

            first.cancel()  # releases its room; the other one need not send again
            await second.done_writing()
            assert await read_all(second, answered) is None
        assert answered.numbers == [800]
        assert met.store.staged == [400, 800]
        assert (await met.pair.ledger.backlog()).queued_bytes == CHUNK


@pytest.mark.rule(5)
async def test_unacceptable_chunk_is_rejected_at_its_header(
    factory: CoordinationFactory, tmp_path: Path
) -> None:
    async with watched_intake(factory, tmp_path, PATIENT) as met:
        upload = await met.intake.initiate(expected_size=1024)
        call, answered = met.intake.stream(), Answered()
        async with asyncio.timeout(10):
            await call.write(header(upload.upload_id, 0, 2048))  # and not one byte of it
            error = await read_all(call, answered)
        assert isinstance(error, SluiceError)
        assert error.reason == "EXPECTED_SIZE_EXCEEDED"
        assert met.store.staged == []
