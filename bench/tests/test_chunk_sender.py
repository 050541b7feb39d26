"""Load generator: every failed chunk is counted and resent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from bench.load import chunk_sender
from bench.load.chunk_sender import Figures, LoadFailedError, Sender, Upload
from bench.load.payload import Payload
from bench.load.schedule import Pace, Schedule
from sluice.upload.v1 import upload_pb2 as pb
from sluice.upload.v1 import upload_pb2_grpc

CHUNK = 1000


class Intake(upload_pb2_grpc.IntakeServiceServicer):
    """Intake that records every chunk and refuses the attempts in `refuses`, counted from 0."""

    def __init__(self, refuses: Callable[[int], bool]) -> None:
        self._refuses = refuses
        self._attempts = 0
        self.received: list[int] = []

    def _refused(self) -> bool:
        attempt, self._attempts = self._attempts, self._attempts + 1
        return self._refuses(attempt)

    def _accept(self, number: int, size: int) -> pb.Accepted:
        self.received.append(number)
        return pb.Accepted(number=number, size=size)

    async def UploadStream(self, request_iterator, context):  # type: ignore[no-untyped-def]  # noqa: N802
        async for message in request_iterator:
            if message.HasField("header"):
                header, missing = message.header, message.header.size
                if self._refused():
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
            missing -= len(message.data)
            if not missing:
                yield pb.UploadStreamResponse(throttled=pb.Throttled(number=header.number))
                yield pb.UploadStreamResponse(accepted=self._accept(header.number, header.size))

    async def UploadChunk(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        if self._refused():
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "not now")
        return pb.UploadChunkResponse(accepted=self._accept(request.number, len(request.data)))


def intake_that(refuses: Callable[[int], bool]) -> Intake:
    return Intake(refuses)  # type: ignore[abstract]  # only the methods that a load calls


@asynccontextmanager
async def calling(intake: Intake) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    upload_pb2_grpc.add_IntakeServiceServicer_to_server(intake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


def sender_of(chunks: int, window: int = 3) -> tuple[Sender, Figures]:
    figures = Figures()
    payload = Payload("random", CHUNK, 300)
    return Sender(payload, Schedule(chunks=chunks), window, figures), figures


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_sender, "_PAUSE_SECONDS", 0.0)


async def test_every_chunk_is_sent_once_and_its_latencies_are_noted() -> None:
    intake = intake_that(lambda attempt: False)
    sender, figures = sender_of(20)
    async with calling(intake) as channel:
        await sender.by_stream(channel, Upload("one"))
    assert sorted(intake.received) == list(range(20))
    assert (figures.chunks, figures.bytes, figures.throttled) == (20, 20 * CHUNK, 20)
    assert figures.ack_after_last_byte.count == figures.round_trips.count == 20
    assert figures.since_due.count == 0
    assert not figures.errors


async def test_paced_acknowledgement_is_timed_from_the_due_time() -> None:
    """The clock starts when the chunk's last block was due."""
    sender, figures = sender_of(5)
    async with calling(intake_that(lambda attempt: False)) as channel:
        begun = time.perf_counter()
        # The line began half a second ago: what it has carried since is late.
        pace = Pace(bytes_per_second=10_000, due=begun - 0.5)
        await sender.by_stream(channel, Upload("one"), pace)
        took = time.perf_counter() - begun
    assert figures.since_due.count == 5
    assert figures.since_due.milliseconds(100) >= 380  # the first chunk was due 0.4 s ago
    assert figures.ack_after_last_byte.milliseconds(50) < 380
    assert took < 5.0


async def test_line_carries_no_more_than_its_pace() -> None:
    sender, figures = sender_of(5)
    async with calling(intake_that(lambda attempt: False)) as channel:
        begun = time.perf_counter()
        await sender.by_stream(channel, Upload("one"), Pace(10_000, begun))
        took = time.perf_counter() - begun
    assert figures.chunks == 5
    assert took >= 0.5


async def test_chunks_in_flight_on_a_broken_stream_are_resent() -> None:
    """Each counts as an error."""
    intake = intake_that(lambda attempt: attempt in (4, 11))
    sender, figures = sender_of(20)
    async with calling(intake) as channel:
        await sender.by_stream(channel, Upload("one"))
    assert set(intake.received) == set(range(20))
    assert figures.chunks == 20
    # Of each broken stream at least the refused chunk, at most the window. grpc.aio reports
    # INTERNAL when a write was in progress as the answer arrived.
    assert set(figures.errors) <= {"UNAVAILABLE", "INTERNAL"}
    assert 2 <= figures.errors.total() <= 6


async def test_refused_unary_chunk_is_counted_and_resent() -> None:
    intake = intake_that(lambda attempt: attempt % 4 == 3)
    sender, figures = sender_of(9)
    async with calling(intake) as channel:
        await sender.by_calls(channel, Upload("one"))
    assert sorted(intake.received) == list(range(9))
    assert figures.errors == {"RESOURCE_EXHAUSTED": 2}
    assert figures.round_trips.count == 9


@pytest.mark.parametrize("way", ["by_stream", "by_calls"])
async def test_intake_that_refuses_everything_ends_the_load(way: str) -> None:
    sender, figures = sender_of(3)
    async with calling(intake_that(lambda attempt: True)) as channel:
        with pytest.raises(LoadFailedError):
            await getattr(sender, way)(channel, Upload("one"))
    assert figures.chunks == 0


async def test_streams_of_one_upload_never_send_the_same_number() -> None:
    intake = intake_that(lambda attempt: False)
    sender, _ = sender_of(30)
    upload = Upload("one")
    async with calling(intake) as channel:
        await asyncio.gather(*(sender.by_stream(channel, upload) for _ in range(4)))
    assert sorted(intake.received) == list(range(30))
    assert upload.total == 30


@pytest.mark.parametrize("source", ["random", "zeros", "file"])
def test_payload_matches_the_request(source: str, tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(bytes(range(250)) * 11)
    payload = Payload(f"file:{path}" if source == "file" else source, CHUNK, 300)
    content = payload.content(1)
    assert len(content.data) == CHUNK
    sent = b"".join(pb.UploadStreamRequest.FromString(block).data for block in content.blocks)
    assert sent == content.data
    assert max(len(block) for block in content.blocks) < 310
    if source == "zeros":
        assert not any(content.data)
    if source == "file":
        assert content.data == path.read_bytes()[CHUNK : 2 * CHUNK]
        assert payload.content(2) is payload.content(0), "round the whole chunks of the file"


def test_file_without_a_whole_chunk_is_refused(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x")
    with pytest.raises(ValueError, match="no whole chunk"):
        Payload(f"file:{tmp_path / 'small'}", CHUNK, 300)
