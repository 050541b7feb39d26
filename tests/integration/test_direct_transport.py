"""Tests of the direct transport of chunks from intake to repository."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from sluice.repository.v1 import chunk_sink_pb2 as pb
from sluice.upload.v1.upload_pb2 import Accepted
from sluice_common.direct.chunks import DirectChunkStore
from sluice_common.direct.options import DirectOptions
from sluice_core.errors import (
    DataLoss,
    Internal,
    InvalidArgument,
    OutOfRange,
    ResourceExhausted,
    SluiceError,
    Unavailable,
)
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ports import Block, ChunkOffer
from sluice_core.uploads.ids import new_token
from sluice_core.uploads.model import MIB
from sluice_intake.options import IntakeOptions
from support.chunk_sink import Sink, SinkProcess, direct_store, running_sink
from support.intake import block, cut, frames_of, header, running_intake
from support.waiting import until

OPTIONS = DirectOptions(stall_seconds=5.0, wait_seconds=5.0, retry_after_seconds=0.1)
UPLOAD = "n1-upload"


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with running_sink() as running:
        yield running


@pytest.fixture
async def store(sink: Sink) -> AsyncIterator[DirectChunkStore]:
    async with direct_store(sink.address, OPTIONS) as opened:
        yield opened


@pytest.fixture
def process() -> Iterator[SinkProcess]:
    process = SinkProcess()
    process.start()
    try:
        yield process
    finally:
        process.close()


def offer(number: int, size: int) -> ChunkOffer:
    return ChunkOffer(UPLOAD, number, size, new_token())


async def send_chunk(store: DirectChunkStore, number: int, *blocks: Block) -> None:
    async with store.stage(offer(number, sum(len(each) for each in blocks))) as staged:
        for each in blocks:
            await staged.append(each)
        await staged.seal()


async def failure(sending: Awaitable[object]) -> SluiceError:
    with pytest.raises(SluiceError) as caught:
        await sending
    return caught.value


# ------------------------------------------------------------------ complete chunks


async def test_repository_counts_complete_chunks(store: DirectChunkStore, sink: Sink) -> None:
    await send_chunk(store, 0, b"a" * MIB, memoryview(b"b" * MIB), b"", b"c" * 17)
    await send_chunk(store, 1)
    assert (sink.count(), sink.bytes) == (2, 2 * MIB + 17)


async def test_sequential_chunks_share_one_stream(store: DirectChunkStore, sink: Sink) -> None:
    for number in range(20):
        await send_chunk(store, number, b"x" * 1000, b"y")
    assert (sink.count(), sink.streams) == (20, 1)


async def test_concurrent_chunks_respect_stream_limit(sink: Sink) -> None:
    async with direct_store(sink.address, replace(OPTIONS, max_streams=3)) as store:
        async with asyncio.TaskGroup() as group:
            for number in range(30):
                group.create_task(send_chunk(store, number, *[bytes([number]) * MIB] * 2))
        assert (sink.count(), sink.bytes) == (30, 60 * MIB)
        assert sink.streams == 3


async def test_chunk_without_bytes_holds_no_stream(sink: Sink) -> None:
    async with (
        direct_store(sink.address, replace(OPTIONS, max_streams=1, wait_seconds=0.05)) as store,
        store.stage(offer(0, 5)),
        store.stage(offer(1, 5)),
    ):
        await send_chunk(store, 2, b"12345")
    assert sink.count() == 1


async def test_idle_stream_ends(sink: Sink) -> None:
    async with direct_store(sink.address, replace(OPTIONS, idle_seconds=0.05)) as store:
        await send_chunk(store, 0, b"x")
        await until(lambda: sink.ended_streams == 1)
        await send_chunk(store, 1, b"x")
        assert (sink.count(), sink.streams) == (2, 2)


async def test_old_stream_is_replaced_between_chunks(sink: Sink) -> None:
    async with direct_store(sink.address, replace(OPTIONS, max_stream_seconds=0.0)) as store:
        for number in range(3):
            await send_chunk(store, number, b"x")
        assert (sink.count(), sink.streams) == (3, 3)


# ------------------------------------------------------------------ rejected and incomplete chunks


async def test_incomplete_chunk_never_counts(store: DirectChunkStore, sink: Sink) -> None:
    async with store.stage(offer(0, 2 * MIB)) as staged:
        await staged.append(b"x" * MIB)
        await until(lambda: sink.messages == 1)
    await until(lambda: sink.given_up == 1)
    await send_chunk(store, 0, b"y" * MIB)
    assert (sink.count(), sink.bytes) == (1, MIB)


async def test_cancelled_sender_releases_its_stream(sink: Sink) -> None:
    async with direct_store(sink.address, replace(OPTIONS, max_streams=1)) as store:
        begun = asyncio.Event()

        async def send() -> None:
            async with store.stage(offer(0, 64 * MIB)) as staged:
                while True:
                    await staged.append(b"x" * MIB)
                    begun.set()

        sender = asyncio.create_task(send())
        await begun.wait()
        sender.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sender
        await send_chunk(store, 0, b"y")
        assert (sink.count(), sink.bytes) == (1, 1)


@pytest.mark.rule(1)
async def test_size_mismatch_never_reaches_ledger(store: DirectChunkStore, sink: Sink) -> None:
    async with store.stage(offer(0, 3)) as staged:
        await staged.append(b"12")
        error = await failure(staged.seal())
        assert (type(error), error.reason) == (InvalidArgument, "CHUNK_INCOMPLETE")
        error = await failure(staged.append(b"34"))
        assert (type(error), error.reason) == (OutOfRange, "CHUNK_OVERRUN")
    assert sink.count() == 0


async def test_exhausted_streams_reject_chunk_with_retry_delay(sink: Sink) -> None:
    options = replace(OPTIONS, max_streams=1, wait_seconds=0.05)
    async with direct_store(sink.address, options) as store:
        async with store.stage(offer(0, 2)) as staged:
            await staged.append(b"x")
            error = await failure(send_chunk(store, 1, b"y"))
        assert isinstance(error, ResourceExhausted)
        assert (error.reason, error.retry_after_seconds) == ("TRANSPORT_BUSY", 0.1)
        await send_chunk(store, 1, b"y")


class _FixedResponse(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # not generic at run time
    """Repository that sends the same response to every chunk."""

    def __init__(self, response: Accepted) -> None:
        self._response = response

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        async def handle(_requests: object, context: Any) -> None:
            await context.read()
            await context.write(pb.PutChunksResponse(accepted=self._response))

        return grpc.stream_stream_rpc_method_handler(
            handle, response_serializer=pb.PutChunksResponse.SerializeToString
        )


@pytest.mark.parametrize(
    "response",
    [Accepted(number=7, size=3, crc32c=1), Accepted(number=6, size=3, crc32c=0x364B3FB7)],
)
async def test_chunk_confirmed_as_another_is_data_loss(response: Accepted) -> None:
    server = grpc.aio.server(handlers=(_FixedResponse(response),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with direct_store(f"127.0.0.1:{port}", OPTIONS) as store:
            error = await failure(send_chunk(store, 7, b"abc"))
            assert (type(error), error.reason) == (DataLoss, "CHECKSUM_MISMATCH")
    finally:
        await server.stop(None)


async def test_missing_service_is_internal_error() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with direct_store(f"127.0.0.1:{port}", OPTIONS) as store:
            error = await failure(send_chunk(store, 0, b"abc"))
            assert (type(error), error.reason) == (Internal, "REPOSITORY_REFUSED")
            assert "UNIMPLEMENTED" in error.log_detail
            assert "UNIMPLEMENTED" not in error.message
    finally:
        await server.stop(None)


async def test_rejection_arrives_while_chunk_is_sent() -> None:
    """The order of status and failed write is random, hence many repetitions."""
    async with (
        running_sink(max_chunk_bytes=MIB) as sink,
        direct_store(sink.address, OPTIONS) as store,
    ):
        for number in range(100):
            error = await failure(send_chunk(store, number, *[bytes(MIB)] * 8))
            assert (type(error), error.reason) == (Internal, "REPOSITORY_REFUSED")
            assert "CHUNK_TOO_LARGE" in error.log_detail


# ------------------------------------------------------------------ repository failures


async def test_down_repository_is_unavailable_until_restart(
    process: SinkProcess,
) -> None:
    async with direct_store(process.address, OPTIONS) as store:
        await send_chunk(store, 0, b"before")
        process.kill()
        error = await failure(send_chunk(store, 1, b"while it is down"))
        assert (type(error), error.reason) == (Unavailable, "REPOSITORY_UNAVAILABLE")
        assert error.retry_after_seconds == 0.1
        process.start()
        await retry_until_success(lambda: send_chunk(store, 1, b"after"))


async def test_repository_killed_mid_chunk_is_unavailable(
    process: SinkProcess,
) -> None:
    async with direct_store(process.address, OPTIONS) as store:

        async def send(then: Callable[[], None]) -> None:
            async with store.stage(offer(0, 8 * MIB)) as staged:
                for number in range(8):
                    await staged.append(b"x" * MIB)
                    if number == 3:
                        then()
                await staged.seal()

        error = await failure(send(process.kill))
        assert (type(error), error.reason) == (Unavailable, "REPOSITORY_UNAVAILABLE")
        process.start()
        await retry_until_success(lambda: send(lambda: None))


async def test_hanging_repository_stalls_sender_and_times_out(
    process: SinkProcess,
) -> None:
    async with direct_store(process.address, replace(OPTIONS, stall_seconds=0.5)) as store:
        os.kill(process.pid, signal.SIGSTOP)
        try:
            error = await failure(send_chunk(store, 0, *[b"x" * MIB] * 32))
        finally:
            os.kill(process.pid, signal.SIGCONT)
        assert (type(error), error.reason) == (Unavailable, "REPOSITORY_UNAVAILABLE")
        await retry_until_success(lambda: send_chunk(store, 0, b"awake"))


async def retry_until_success(sending: Callable[[], Awaitable[None]]) -> None:
    """Retry like a client while the error is retryable."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await sending()
            except SluiceError as error:
                if not error.retryable:
                    raise
                await asyncio.sleep(error.retry_after_seconds or 0.1)


# ------------------------------------------------------------------ through an intake


async def test_upload_through_intake_reaches_repository(
    store: DirectChunkStore, sink: Sink
) -> None:
    data = os.urandom(5 * MIB + 123)
    options = IntakeOptions(ledger=LedgerOptions(discard_on_accept=True))
    async with running_intake(options, chunks=store) as intake:
        upload = await intake.initiate()
        chunks = cut(data, 2 * MIB)
        frames = [
            frame
            for number, chunk in enumerate(chunks)
            for frame in frames_of(upload.upload_id, number, chunk)
        ]
        response = await intake.send_stream(frames)
        assert response.error is None
        assert response.numbers == [0, 1, 2]
        assert (await intake.ledger.backlog()).queued_bytes == 0
    assert (sink.count(), sink.bytes) == (3, len(data))


async def test_disconnected_client_leaves_no_partial_chunk(
    store: DirectChunkStore, sink: Sink
) -> None:
    options = IntakeOptions(ledger=LedgerOptions(discard_on_accept=True))
    async with running_intake(options, chunks=store) as intake:
        upload = await intake.initiate()
        call = intake.stream()
        await call.write(header(upload.upload_id, 0, 2 * MIB))
        await call.write(block(bytes(MIB)))
        await until(lambda: sink.messages == 1)
        call.cancel()
        await until(lambda: sink.given_up == 1)
        assert (await intake.send(upload.upload_id, 0, b"again")).number == 0
    assert (sink.count(), sink.bytes) == (1, 5)
