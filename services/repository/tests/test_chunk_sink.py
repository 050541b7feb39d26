"""Tests of ChunkSinkService over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc.aio
import pytest

from sluice.repository.v1.chunk_sink_pb2 import PutChunksRequest, PutChunksResponse
from sluice.repository.v1.chunk_sink_pb2_grpc import ChunkSinkServiceStub
from sluice.upload.v1.upload_pb2 import Accepted, ChunkHeader
from sluice_common.rpc.errors import from_rpc_error
from sluice_core.errors import DataLoss, InvalidArgument, OutOfRange, SluiceError
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MIB
from support.chunk_sink import Sink, running_sink
from support.token_authenticator import TokenAuthenticator
from support.waiting import until

EOF = grpc.aio.EOF  # type: ignore[attr-defined]
UNLIMITED = [("grpc.max_send_message_length", -1)]


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with running_sink(max_chunk_bytes=8 * MIB) as running:
        yield running


@pytest.fixture
async def channel(sink: Sink) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(sink.address, options=UNLIMITED) as channel:
        yield channel


def header(number: int, size: int, **fields: Any) -> PutChunksRequest:
    fields = {"upload_id": "n1-upload", **fields}
    return PutChunksRequest(header=ChunkHeader(number=number, size=size, **fields))


def block(data: bytes) -> PutChunksRequest:
    return PutChunksRequest(data=data)


async def put(channel: grpc.aio.Channel, messages: Iterable[PutChunksRequest]) -> list[Accepted]:
    """Return all answers to a stream of these messages. Raises the `SluiceError` of a refusal."""
    open_stream: Any = ChunkSinkServiceStub(channel).PutChunks
    call = open_stream(iter(messages))
    try:
        return [answer.accepted async for answer in call]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


async def refusal(channel: grpc.aio.Channel, *messages: PutChunksRequest) -> SluiceError:
    with pytest.raises(SluiceError) as caught:
        await put(channel, messages)
    return caught.value


def accepted(number: int, data: bytes) -> Accepted:
    return Accepted(number=number, size=len(data), crc32c=crc32c(data))


async def test_stream_carries_several_chunks(sink: Sink, channel: grpc.aio.Channel) -> None:
    data = [b"a" * MIB + b"b" * MIB + b"c" * 3, b"one block", b""]
    whole = PutChunksRequest(data=data[1], header=header(1, 9, crc32c=crc32c(data[1])).header)
    blocks = [block(data[0][at : at + MIB]) for at in range(0, len(data[0]), MIB)]
    answers = await put(channel, [header(0, len(data[0])), *blocks, whole, header(2, 0)])
    assert answers == [accepted(number, data[number]) for number in range(3)]
    assert (sink.count(), sink.bytes) == (3, 2 * MIB + 3 + 9)


@pytest.mark.parametrize(
    ("messages", "kind", "reason"),
    [
        ([block(b"x")], InvalidArgument, "BLOCK_BEFORE_HEADER"),
        ([header(0, 2), block(b"x"), header(1, 2)], InvalidArgument, "CHUNK_OPEN"),
        ([header(0, 2), block(b"x")], InvalidArgument, "CHUNK_INCOMPLETE"),
        ([header(0, 2), block(b"xyz")], OutOfRange, "CHUNK_OVERRUN"),
        ([header(0, 2 * MIB), block(bytes(MIB + 1))], InvalidArgument, "BLOCK_TOO_LARGE"),
        ([header(0, 8 * MIB + 1)], InvalidArgument, "CHUNK_TOO_LARGE"),
        ([header(0, -1)], InvalidArgument, "CHUNK_TOO_LARGE"),
        ([header(-1, 1)], InvalidArgument, "BAD_CHUNK_NUMBER"),
        ([header(0, 1, upload_id="../x")], InvalidArgument, "BAD_ID"),
        ([header(0, 1, crc32c=crc32c(b"x")), block(b"y")], DataLoss, "CHECKSUM_MISMATCH"),
    ],
)
async def test_protocol_violation_is_refused_and_counted(
    sink: Sink,
    channel: grpc.aio.Channel,
    messages: list[PutChunksRequest],
    kind: type[SluiceError],
    reason: str,
) -> None:
    error = await refusal(channel, *messages)
    assert (type(error), error.reason) == (kind, reason)
    assert (sink.count(reason), sink.count(), sink.bytes) == (1, 0, 0)
    assert await put(channel, [header(0, 1), block(b"g")]) == [accepted(0, b"g")]


async def test_malformed_message_is_refused(channel: grpc.aio.Channel) -> None:
    call = channel.stream_stream(  # type: ignore[call-arg]  # its stubs want serializers
        "/sluice.repository.v1.ChunkSinkService/PutChunks",
        response_deserializer=PutChunksResponse.FromString,
    )(iter([b"\xff\xff\xff"]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        [answer async for answer in call]
    assert from_rpc_error(caught.value).reason == "MALFORMED_MESSAGE"


async def test_chunks_acknowledged_before_refusal_are_counted(
    sink: Sink, channel: grpc.aio.Channel
) -> None:
    error = await refusal(channel, header(0, 1), block(b"x"), header(1, 1), block(b"yy"))
    assert error.reason == "CHUNK_OVERRUN"
    assert (sink.count(), sink.bytes) == (1, 1)


async def test_stopping_repository_ends_stream_after_current_chunk(
    sink: Sink, channel: grpc.aio.Channel
) -> None:
    open_stream: Any = ChunkSinkServiceStub(channel).PutChunks
    call = open_stream()
    await call.write(header(0, 2))
    await call.write(block(b"x"))
    # The handler has the first block before the stop is set.
    await until(lambda: sink.messages == 2)
    sink.stop.set()
    await call.write(block(b"y"))
    assert (await call.read()).accepted == accepted(0, b"xy")
    assert await call.read() is EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_intake_sends_chunks_without_a_token() -> None:
    """The transport is between services and for no user."""
    async with (
        running_sink(authenticator=TokenAuthenticator()) as sink,
        grpc.aio.insecure_channel(sink.address) as channel,
    ):
        (accepted,) = await put(channel, [header(0, 5), block(b"hello")])
    assert accepted.size == 5
