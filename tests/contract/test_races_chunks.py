"""Races of senders and workers over one chunk: bytes never mix (rules 1, 2, 8). The intake's code
runs in turns, and every order runs on every pair of ledger and chunk store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

import pytest

from sluice_backends.memory.queue import InProcessQueue
from sluice_core.errors import AlreadyExists, FailedPrecondition, SluiceError
from sluice_core.ports import Acceptance, Admission, ChunkOffer, PartClaim, Verdict
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.ids import new_node_id, new_token, new_upload_id
from sluice_core.uploads.model import ChunkRef, NewUpload, ObjectRef, UploadStatus
from sluice_intake.chunks.acceptance import ChunkAcceptor
from sluice_intake.chunks.admission import ChunkAdmission
from sluice_intake.chunks.reception import ChunkReceiver
from sluice_intake.drives import DefaultDrives
from sluice_intake.metrics import IntakeMetrics
from sluice_intake.options import IntakeOptions
from sluice_intake.quotas import UploadRooms
from support.coordination import COORDINATIONS, Coordination, CoordinationFactory
from support.ledgers import LEASE_SECONDS, PART_BYTES, ROOMY
from support.races import Actor, at_once, noting_order, orders, outcome, play

HALF = PART_BYTES // 2


def content(letter: str, size: int = PART_BYTES) -> bytes:
    return letter.encode() * size


@dataclass
class Sender:
    """Reception of one chunk by an intake, in steps that the test controls."""

    stages: IntakeStages
    offer: ChunkOffer
    data: bytes
    answer: Acceptance | SluiceError | None = None

    async def in_three_turns(self) -> Actor:
        """Room and the first block, the second block, acceptance."""
        async with self.stages.receiving.open(self.offer, None, self.stages.admit) as chunk:
            middle = len(self.data) // 2
            await chunk.append(memoryview(self.data)[:middle])
            yield
            await chunk.append(memoryview(self.data)[middle:])
            yield
            self.answer = await outcome(self.stages.accepting.accept(chunk))

    async def in_two_turns(self) -> Actor:
        """All bytes, acceptance."""
        async with self.stages.receiving.open(self.offer, None, self.stages.admit) as chunk:
            await chunk.append(memoryview(self.data))
            yield
            self.answer = await outcome(self.stages.accepting.accept(chunk))

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[Sender]:
        """All bytes are staged; `accept` is all that is left."""
        async with self.stages.receiving.open(self.offer, None, self.stages.admit) as chunk:
            await chunk.append(memoryview(self.data))
            self._chunk = chunk
            yield self

    async def accept(self) -> Acceptance:
        return await self.stages.accepting.accept(self._chunk)


@dataclass
class IntakeStages:
    """Stages of an intake on one pair of ledger and store, with their effects."""

    pair: Coordination
    receiving: ChunkReceiver
    accepting: ChunkAcceptor
    admissions: ChunkAdmission
    tokens: list[str] = field(default_factory=list)

    async def admit(self, offer: ChunkOffer, more_bytes: int) -> Admission:
        return await self.admissions.admit_unary("acme", offer, more_bytes)

    async def begin(self) -> str:
        node_id = new_node_id()
        new = NewUpload(
            upload_id=new_upload_id(self.pair.ledger.nonce, "acme", ""),
            node_id=node_id,
            tenant="acme",
            subject="ann",
            drive="photos",
            path="a.bin",
            content_type="text/plain",
            fingerprint="f",
            object=ObjectRef("bucket", f"acme/photos/{node_id}"),
            part_bytes=PART_BYTES,
        )
        return (await self.pair.ledger.create(new)).upload_id

    def sender(self, upload_id: str, number: int, data: bytes, *, force: bool = False) -> Sender:
        offer = ChunkOffer(upload_id, number, len(data), new_token(), force=force)
        self.tokens.append(offer.token)
        return Sender(self, offer, data)

    async def send(
        self, upload_id: str, number: int, data: bytes, *, force: bool = False
    ) -> Acceptance:
        async with self.sender(upload_id, number, data, force=force).ready() as sender:
            return await sender.accept()

    async def claim(self, upload_id: str, part: int) -> PartClaim:
        claim = await self.pair.ledger.claim_part(upload_id, part, "worker", LEASE_SECONDS)
        assert claim is not None
        return claim

    async def chunks_of(self, claim: PartClaim) -> list[ChunkRef]:
        upload_id, before = claim.snapshot.upload_id, claim.plan.first_chunk - 1
        return list(await self.pair.ledger.part_chunks(upload_id, claim.plan, before, 100))

    async def part(self, upload_id: str, part: int) -> bytes:
        """Return the bytes that a worker reads for this part."""
        claim = await self.claim(upload_id, part)
        try:
            return await self.pair.bytes_of(upload_id, *await self.chunks_of(claim))
        finally:
            await self.pair.ledger.release_claim(claim)

    async def named(self, upload_id: str) -> set[str]:
        """Return the tokens of this test's senders that the ledger still names."""
        return set(await self.pair.ledger.known_tokens(upload_id, self.tokens))

    async def kept(self, upload_id: str) -> set[str]:
        """Return the tokens whose bytes the store lists; the named ones where it lists none."""
        listed = {
            token
            for of, tokens in await self.pair.chunks.leftovers(-1.0, 10_000)
            if of == upload_id
            for token in tokens
        }
        return listed or await self.named(upload_id)


@pytest.fixture(params=list(COORDINATIONS.values()), ids=list(COORDINATIONS))
async def stages(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[IntakeStages]:
    factory: CoordinationFactory = request.param
    async with factory(tmp_path, ROOMY) as pair:
        rooms = UploadRooms(pair.ledger, DefaultDrives(), step_bytes=1)
        options, metrics = IntakeOptions(ledger=ROOMY), IntakeMetrics()
        yield IntakeStages(
            pair,
            ChunkReceiver(pair.ledger, pair.chunks, rooms, options),
            ChunkAcceptor(pair.ledger, pair.chunks, InProcessQueue(), options),
            ChunkAdmission(pair.ledger, metrics, options),
        )


# ------------------------------------------------------------------ rule 1: one number, two senders


@pytest.mark.rule(1)
async def test_one_of_two_senders_of_a_number_is_accepted_whole(stages: IntakeStages) -> None:
    for order in orders(3, 3):
        upload_id = await stages.begin()
        senders = [stages.sender(upload_id, 0, content(letter)) for letter in "ab"]
        with noting_order(order):
            await play(order, *(sender.in_three_turns() for sender in senders))
            loser, winner = order[-1], 1 - order[-1]  # who accepts last comes too late
            taken, refused = senders[winner].answer, senders[loser].answer
            assert isinstance(taken, Acceptance)
            assert taken.verdict is Verdict.NEW
            assert isinstance(refused, AlreadyExists)
            assert refused.reason == "CHUNK_CONFLICT"
            assert await stages.part(upload_id, 1) == senders[winner].data
            assert await stages.kept(upload_id) == {senders[winner].offer.token}


@pytest.mark.rule(1, 2)
async def test_chunk_sent_twice_concurrently_is_stored_once(stages: IntakeStages) -> None:
    for order in orders(3, 3):
        upload_id = await stages.begin()
        senders = [stages.sender(upload_id, 0, content("a")) for _ in range(2)]
        with noting_order(order):
            await play(order, *(sender.in_three_turns() for sender in senders))
            late, first = senders[order[-1]], senders[1 - order[-1]]
            assert isinstance(first.answer, Acceptance)
            assert isinstance(late.answer, Acceptance)
            assert (first.answer.verdict, late.answer.verdict) == (Verdict.NEW, Verdict.DUPLICATE)
            assert late.answer.chunk == first.answer.chunk
            assert await stages.part(upload_id, 1) == content("a")
            assert await stages.kept(upload_id) == {first.offer.token}


@pytest.mark.rule(1)
async def test_one_of_concurrent_accepts_commits(stages: IntakeStages) -> None:
    upload_id = await stages.begin()
    letters = "abcdefgh"
    async with asyncio.TaskGroup() as group:
        everybody_staged = asyncio.Barrier(len(letters))

        async def send(letter: str) -> Acceptance | SluiceError:
            async with stages.sender(upload_id, 0, content(letter)).ready() as sender:
                await everybody_staged.wait()
                return await outcome(sender.accept())

        tasks = {letter: group.create_task(send(letter)) for letter in letters}
    answers = {letter: task.result() for letter, task in tasks.items()}
    (winner,) = (letter for letter, answer in answers.items() if isinstance(answer, Acceptance))
    refused = [answer for answer in answers.values() if isinstance(answer, SluiceError)]
    assert [error.reason for error in refused] == ["CHUNK_CONFLICT"] * (len(letters) - 1)
    assert await stages.part(upload_id, 1) == content(winner)
    snapshot = await stages.pair.ledger.get(upload_id)
    assert (snapshot.received_chunks, snapshot.received_bytes) == (1, PART_BYTES)
    backlog = await stages.pair.ledger.backlog()
    assert (backlog.queued_bytes, backlog.reserved_bytes) == (PART_BYTES, 0)
    assert len(await stages.kept(upload_id)) == 1


# ------------------------------------------------------------------ rule 2: force against queueing


@pytest.mark.rule(2)
async def test_force_replaces_only_until_the_part_is_queued(
    stages: IntakeStages,
) -> None:
    """Accepting the neighbour completes and thereby queues the part."""
    for order in orders(2, 2):
        upload_id = await stages.begin()
        old = await stages.send(upload_id, 0, content("o", HALF))
        forcing = stages.sender(upload_id, 0, content("n", HALF), force=True)
        neighbour = stages.sender(upload_id, 1, content("z", HALF))
        with noting_order(order):
            await play(order, forcing.in_two_turns(), neighbour.in_two_turns())
            assert isinstance(neighbour.answer, Acceptance)
            if order[-1] == 1:
                assert isinstance(forcing.answer, Acceptance)
                assert forcing.answer.verdict is Verdict.REPLACED
                first, token = content("n", HALF), forcing.offer.token
            else:
                assert isinstance(forcing.answer, FailedPrecondition)
                assert forcing.answer.reason == "CHUNK_QUEUED"
                first, token = content("o", HALF), old.chunk.token
            assert neighbour.answer.ready_parts == (1,)
            assert await stages.part(upload_id, 1) == first + content("z", HALF)
            assert await stages.kept(upload_id) == {token, neighbour.offer.token}


@pytest.mark.rule(2)
@pytest.mark.parametrize("forced_first", [True, False])
async def test_force_concurrent_with_queueing_keeps_one_content(
    stages: IntakeStages, forced_first: bool
) -> None:
    upload_id = await stages.begin()
    await stages.send(upload_id, 0, content("o", HALF))
    async with (
        stages.sender(upload_id, 0, content("n", HALF), force=True).ready() as forcing,
        stages.sender(upload_id, 1, content("z", HALF)).ready() as neighbour,
    ):
        racing = [forcing, neighbour] if forced_first else [neighbour, forcing]
        answers = dict(
            zip(
                (sender.offer.number for sender in racing),
                await at_once(*(sender.accept() for sender in racing)),
                strict=True,
            )
        )
    expected = content("n" if isinstance(answers[0], Acceptance) else "o", HALF)
    assert await stages.part(upload_id, 1) == expected + content("z", HALF)
    assert len(await stages.kept(upload_id)) == 2


@pytest.mark.rule(2)
async def test_claimed_part_is_not_replaced(stages: IntakeStages) -> None:
    for order in orders(2, 2):
        upload_id = await stages.begin()
        for number in (0, 1):
            await stages.send(upload_id, number, content("o", HALF))
        read: list[bytes] = []

        async def worker(upload_id: str = upload_id, read: list[bytes] = read) -> Actor:
            claim = await stages.claim(upload_id, 1)
            first, second = await stages.chunks_of(claim)
            read.append(await stages.pair.bytes_of(upload_id, first))
            yield
            read.append(await stages.pair.bytes_of(upload_id, second))

        forcing = stages.sender(upload_id, 1, content("n", HALF), force=True)
        with noting_order(order):
            await play(order, forcing.in_two_turns(), worker())
            assert isinstance(forcing.answer, FailedPrecondition)
            assert b"".join(read) == content("o")


@pytest.mark.rule(2)
@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_last_of_several_forced_chunks_stays(
    stages: IntakeStages, order: tuple[int, ...]
) -> None:
    """Only its bytes stay."""
    upload_id = await stages.begin()
    await stages.send(upload_id, 0, content("o", HALF))
    async with (
        stages.sender(upload_id, 0, content("a", HALF), force=True).ready() as one,
        stages.sender(upload_id, 0, content("b", HALF), force=True).ready() as two,
        stages.sender(upload_id, 0, content("c", HALF), force=True).ready() as three,
    ):
        senders = (one, two, three)
        answers = await at_once(*(senders[number].accept() for number in order))
    accepted = [answer for answer in answers if isinstance(answer, Acceptance)]
    assert [answer.verdict for answer in accepted] == [Verdict.REPLACED] * 3
    await stages.send(upload_id, 1, content("z", HALF))
    bytes_now = await stages.part(upload_id, 1)
    (last,) = (sender for sender in senders if sender.data == bytes_now[:HALF])
    assert bytes_now == last.data + content("z", HALF)
    assert last.offer.token in await stages.kept(upload_id)
    assert len(await stages.kept(upload_id)) == 2
    assert (await stages.pair.ledger.backlog()).queued_bytes == PART_BYTES


# ------------------------------------------------------------------ rule 8: damaged, and sent again


@pytest.mark.rule(8)
async def test_late_drop_after_a_rejection_spares_the_new_bytes(
    stages: IntakeStages,
) -> None:
    """The worker drops the damaged bytes after it rejected the chunk; a client may have sent it
    again by then."""
    for order in orders(3, 2):
        upload_id = await stages.begin()
        damaged = await stages.send(upload_id, 0, content("a"))

        async def worker(upload_id: str = upload_id, chunk: ChunkRef = damaged.chunk) -> Actor:
            claim = await stages.claim(upload_id, 1)
            yield
            await stages.pair.ledger.reject_chunk(claim, chunk.number)
            yield
            await stages.pair.chunks.drop(upload_id, [chunk.token])

        again = stages.sender(upload_id, 0, content("a"))
        with noting_order(order):
            await play(order, worker(), again.in_two_turns())
            assert isinstance(again.answer, Acceptance)
            turns = list(enumerate(order))
            rejected_at = [at for at, actor in turns if actor == 0][1]
            accepted_at = [at for at, actor in turns if actor == 1][1]
            after_the_rejection = rejected_at < accepted_at
            missing = (await stages.pair.ledger.missing_chunks(upload_id, 10)).ranges
            if after_the_rejection:
                assert again.answer.verdict is Verdict.NEW
                assert await stages.part(upload_id, 1) == content("a")
                assert await stages.kept(upload_id) == {again.offer.token}
            else:
                # Acknowledged as a duplicate of bytes that turned out damaged a moment later.
                assert again.answer.verdict is Verdict.DUPLICATE
                assert [(gap.first, gap.last) for gap in missing] == [(0, 0)]
                assert await stages.named(upload_id) == set()
            snapshot = await stages.pair.ledger.get(upload_id)
            assert snapshot.status is UploadStatus.UPLOADING
            assert snapshot.received_bytes == (PART_BYTES if after_the_rejection else 0)


@pytest.mark.rule(8)
async def test_a_chunk_rejected_twice_by_one_worker_is_missing_once(stages: IntakeStages) -> None:
    upload_id = await stages.begin()
    await stages.send(upload_id, 0, content("a"))
    claim = await stages.claim(upload_id, 1)
    answers = await at_once(*(stages.pair.ledger.reject_chunk(claim, 0) for _ in range(2)))
    assert [answer for answer in answers if isinstance(answer, SluiceError)] == []
    snapshot = await stages.pair.ledger.get(upload_id)
    assert (snapshot.received_chunks, snapshot.received_bytes) == (0, 0)
    assert (await stages.pair.ledger.backlog()).queued_bytes == 0
    again = await stages.send(upload_id, 0, content("a"))
    assert again.verdict is Verdict.NEW
    assert again.chunk.crc32c == crc32c(content("a"))
    assert await stages.part(upload_id, 1) == content("a")
