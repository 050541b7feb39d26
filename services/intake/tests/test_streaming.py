"""UploadStream: acknowledgements and `Stored` for chunks of any order and shape."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import grpc.aio
import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_backends.discard.chunks import DiscardChunkStore
from sluice_backends.memory.ledger import MemoryLedger
from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MIB
from sluice_intake.options import IntakeOptions
from support.intake import BLOCK, Answered, Intake, block, cut, frames_of, header, running_intake
from support.part_worker import working_for
from support.waiting import until

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # its stubs lack it
DATA = os.urandom(3 * MIB + 12345)


@pytest.mark.rule(5)
async def test_a_chunk_of_several_blocks_is_accepted_with_its_checksum() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate()
        answered = await intake.send_stream(frames_of(upload.upload_id, 0, DATA))
        assert answered.error is None
        assert answered.accepted == [
            pb.Accepted(number=0, size=len(DATA), crc32c=crc32c(DATA), received_bytes=len(DATA))
        ]


@pytest.mark.rule(5)
async def test_data_may_travel_with_the_header() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate()
        opening = header(upload.upload_id, 0, 5, crc32c=crc32c(b"hello"))
        opening.data = b"he"
        answered = await intake.send_stream([opening, block(b"llo")])
        assert (answered.error, answered.numbers) == (None, [0])


@pytest.mark.rule(3)
async def test_an_empty_object_is_one_empty_chunk() -> None:
    async with running_intake() as intake, working_for(intake) as worker:
        upload = await intake.initiate()
        answered = await intake.send_stream([header(upload.upload_id, 0, 0, is_last=True)])
        assert answered.numbers == [0]
        status = await intake.complete(upload.upload_id, wait={"seconds": 10})
        assert status.state == pb.UPLOAD_STATE_COMPLETED
        assert worker.object_of(upload.upload_id) == b""


@pytest.mark.rule(5)
async def test_later_headers_may_leave_the_upload_out() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate()
        frames = [*frames_of(upload.upload_id, 0, b"one"), *frames_of("", 1, b"two")]
        assert (await intake.send_stream(frames)).numbers == [0, 1]


@pytest.mark.rule(5)
async def test_empty_frames_are_ignored() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate()
        empty = pb.UploadStreamRequest()
        opening, data = frames_of(upload.upload_id, 0, b"one")
        answered = await intake.send_stream([empty, opening, empty, data, empty])
        assert (answered.error, answered.numbers) == (None, [0])


@pytest.mark.parametrize("order", ["forwards", "backwards", "shuffled"])
@pytest.mark.parametrize("streams", [1, 8])
async def test_chunks_arrive_in_any_order_over_any_number_of_streams(
    order: str, streams: int
) -> None:
    data = os.urandom(12 * MIB + 7)
    chunks = list(enumerate(cut(data, 300_000)))
    if order == "backwards":
        chunks.reverse()
    elif order == "shuffled":
        random.Random(7).shuffle(chunks)
    options = IntakeOptions(default_part_bytes=5 * MIB)
    async with running_intake(options) as intake, working_for(intake) as worker:
        upload = await intake.initiate(chunk_size=300_000, expected_size=len(data))

        async def stream(share: list[tuple[int, bytes]]) -> Answered:
            return await intake.send_stream(
                [f for number, piece in share for f in frames_of(upload.upload_id, number, piece)]
            )

        answers = await asyncio.gather(*(stream(chunks[at::streams]) for at in range(streams)))
        assert [answered.error for answered in answers] == [None] * streams
        assert sorted(n for a in answers for n in a.numbers) == list(range(len(chunks)))
        status = await intake.complete(
            upload.upload_id, total_chunks=len(chunks), crc32c=crc32c(data), wait={"seconds": 30}
        )
        assert status.state == pb.UPLOAD_STATE_COMPLETED
        assert status.crc32c == crc32c(data)
        assert worker.object_of(upload.upload_id) == data


@pytest.mark.rule(2)
async def test_a_duplicate_is_read_checked_and_acknowledged_again() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate()
        frames = frames_of(upload.upload_id, 0, DATA)
        answered = await intake.send_stream([*frames, *frames])
        assert [a.duplicate for a in answered.accepted] == [False, True]
        assert (await intake.status(upload.upload_id)).received_bytes == len(DATA)
        assert await intake.chunks.leftovers(-1.0, 10) == await tokens_of(intake, upload.upload_id)


async def tokens_of(intake: Intake, upload_id: str) -> list[tuple[str, list[str]]]:
    """Return the expected content of the chunk store: only the tokens that the ledger names."""
    held = await intake.chunks.leftovers(-1.0, 1000)
    tokens = [token for _, found in held for token in found]
    return [(upload_id, sorted(await intake.ledger.known_tokens(upload_id, tokens)))]


async def test_a_damaged_duplicate_is_refused_like_any_damaged_chunk() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate()
        await intake.send(upload.upload_id, 0, b"good")
        frames = frames_of(upload.upload_id, 0, b"g00d", crc32c=crc32c(b"good"))
        answered = await intake.send_stream(frames)
        assert answered.error is not None
        assert answered.error.reason == "CHECKSUM_MISMATCH"


@pytest.mark.rule(7)
async def test_stored_reports_the_watermark_on_an_open_stream() -> None:
    options = IntakeOptions(default_part_bytes=5 * MIB)
    async with running_intake(options) as intake, working_for(intake):
        upload = await intake.initiate(chunk_size=MIB, expected_size=20 * MIB)
        call = intake.stream()
        for number in range(11):
            for frame in frames_of(upload.upload_id, number, bytes([number]) * MIB):
                await call.write(frame)
        answered = Answered()
        async with asyncio.timeout(30):
            while not answered.stored or answered.stored[-1].watermark < 10:
                answered.add(await call.read())
        await call.done_writing()
        last = answered.stored[-1]
        assert (last.number, last.watermark, last.part_number) == (9, 10, 2)
        watermarks = [stored.watermark for stored in answered.stored]
        assert watermarks == sorted(set(watermarks))


@pytest.mark.rule(6)
async def test_a_chunk_is_accepted_before_it_is_stored() -> None:
    options = IntakeOptions(ledger=LedgerOptions(discard_on_accept=True))
    async with running_intake(options) as intake:
        upload = await intake.initiate(chunk_size=8 * MIB)
        call = intake.stream()
        for number in range(8):
            for frame in frames_of(upload.upload_id, number, bytes(8 * MIB)):
                await call.write(frame)
        await call.done_writing()
        answered = Answered()
        while (response := await call.read()) is not EOF:
            answered.add(response)
            if answered.stored:
                assert set(range(answered.stored[-1].watermark)) <= set(answered.numbers)
        assert answered.stored[-1].watermark == 8


@pytest.mark.rule(7)
async def test_the_stream_ends_without_waiting_for_stored() -> None:
    async with running_intake() as intake:  # no worker stores parts
        upload = await intake.initiate(chunk_size=8 * MIB)
        async with asyncio.timeout(30):
            answered = await intake.send_stream(frames_of(upload.upload_id, 0, bytes(8 * MIB)))
        assert (answered.error, answered.numbers, answered.stored) == (None, [0], [])


@pytest.mark.rule(7)
async def test_reopened_stream_receives_the_stored_watermark() -> None:
    async with running_intake() as intake, working_for(intake):
        upload = await intake.initiate(chunk_size=8 * MIB)
        await intake.send_stream(frames_of(upload.upload_id, 0, bytes(8 * MIB)))
        async with asyncio.timeout(30):
            async for status in intake.watch(upload.upload_id):
                if status.stored_chunks:
                    break
        answered = await intake.send_stream(frames_of(upload.upload_id, 1, b"more"))
        assert answered.stored[0].watermark == 1


class SlowLedger:
    """A real ledger whose accepts take `accept_seconds`, or until `hurry` is set."""

    def __init__(self, ledger: Any, accept_seconds: float) -> None:
        self._ledger = ledger
        self._accept_seconds = accept_seconds
        self.hurry = asyncio.Event()
        self.accepting = 0
        self.most_accepting = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def accept_chunk(self, *args: Any) -> Any:
        self.accepting += 1
        self.most_accepting = max(self.most_accepting, self.accepting)
        try:
            await wait_at_most(self.hurry, self._accept_seconds)
            return await self._ledger.accept_chunk(*args)
        finally:
            self.accepting -= 1


async def test_chunks_are_read_during_a_bounded_number_of_accepts() -> None:
    ledger = SlowLedger(MemoryLedger(LedgerOptions()), 60.0)
    options = IntakeOptions(max_accepts_in_flight=3)
    async with running_intake(options, ledger=ledger) as intake:
        upload = await intake.initiate()
        frames = [f for n in range(12) for f in frames_of(upload.upload_id, n, b"x" * 100)]
        sending = asyncio.ensure_future(intake.send_stream(frames))
        await until(lambda: ledger.accepting == 3)
        await asyncio.sleep(0.1)  # time in which a fourth accept would start without the bound
        ledger.hurry.set()
        answered = await sending
        assert sorted(answered.numbers) == list(range(12))
        assert ledger.most_accepting == 3


@pytest.mark.rule(6)
async def test_acknowledgements_arrive_before_the_error() -> None:
    ledger = SlowLedger(MemoryLedger(LedgerOptions()), 0.2)
    async with running_intake(ledger=ledger) as intake:
        upload = await intake.initiate()
        frames = [
            *frames_of(upload.upload_id, 0, b"good"),
            *frames_of(upload.upload_id, 1, b"good too"),
            block(b"of no chunk"),
        ]
        answered = await intake.send_stream(frames)
        assert sorted(answered.numbers) == [0, 1]
        assert answered.error is not None
        assert answered.error.reason == "BLOCK_BEFORE_HEADER"


async def test_the_acknowledgement_is_measured_from_the_last_byte() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate()
        await intake.send_stream(frames_of(upload.upload_id, 0, b"x"))
        sample = intake.metrics.registry.get_sample_value
        assert sample("sluice_ack_seconds_count", {"level": "accepted"}) == 1
        assert sample("sluice_chunks_total", {"verdict": "NEW"}) == 1
        assert sample("sluice_received_bytes_total") == 1


async def test_discarding_ledger_completes_without_keeping_bytes() -> None:
    options = IntakeOptions(ledger=LedgerOptions(discard_on_accept=True))
    async with running_intake(options, chunks=DiscardChunkStore()) as intake:
        upload = await intake.initiate(chunk_size=MIB)
        frames = [f for n in range(20) for f in frames_of(upload.upload_id, n, bytes(MIB))]
        answered = await intake.send_stream(frames)
        assert answered.numbers == list(range(20))
        assert answered.stored[-1].watermark == 16  # two parts of 8 MiB
        sample = intake.metrics.registry.get_sample_value
        assert sample("sluice_ack_seconds_count", {"level": "stored"}) == 16
        assert sample("sluice_ack_seconds_count", {"level": "accepted"}) == 20
        status = await intake.complete(upload.upload_id, total_chunks=20, wait={"seconds": 5})
        assert status.state == pb.UPLOAD_STATE_COMPLETED


async def test_empty_stream_ends_without_error() -> None:
    async with running_intake() as intake:
        answered = await intake.send_stream([])
        assert answered.error is None


@pytest.mark.parametrize("block_bytes", [1, 1000, BLOCK])
async def test_blocks_may_have_any_size_up_to_the_limit(block_bytes: int) -> None:
    data = DATA[: min(len(DATA), block_bytes * 500)]
    async with running_intake() as intake:
        upload = await intake.initiate()
        frames = frames_of(upload.upload_id, 0, data, block_bytes=block_bytes)
        assert (await intake.send_stream(frames)).numbers == [0]
