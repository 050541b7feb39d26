"""Request limits: message size per method, typed refusals, bounded memory (rule 11)."""

from __future__ import annotations

import asyncio
import gzip
import weakref
import zlib
from typing import Any

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from sluice.upload.v1 import upload_pb2 as pb
from sluice_common.rpc.interceptors import server_layers
from sluice_common.rpc.messages import RequestFormat
from sluice_common.rpc.server import build_server, listen
from sluice_common.security.authentication import LocalAuthenticator
from sluice_common.settings.rpc_options import ServerOptions
from sluice_common.telemetry.metrics import RpcMetrics
from sluice_core.addresses import Address
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MIB
from sluice_intake.rpc.servicer import SERVICE_NAME
from support.half_messages import half_messages
from support.intake import Intake, refusal, running_intake
from support.waiting import until

KIB = 1024
METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["IntakeService"].methods]
MESSAGE_LIMITS = {
    **dict.fromkeys(METHODS, 64 * KIB),
    "InitiateUpload": MIB + 128 * KIB,
    "UploadStream": MIB + 64 * KIB,
    "UploadChunk": 32 * MIB + 64 * KIB,
}


def send_raw(intake: Intake, method: str, wire: bytes, **options: Any) -> Any:
    """Return the response to one message of these bytes, for any kind of method."""
    channel: Any = intake.channel
    return channel.stream_stream(f"/{SERVICE_NAME}/{method}")(iter([wire]), **options).read()


def refused(intake: Intake, reason: str) -> float:
    value = intake.metrics.registry.get_sample_value(
        "sluice_refused_messages_total", {"reason": reason}
    )
    return value or 0.0


def handled(intake: Intake, method: str, code: str) -> float:
    """Return the number of calls of this method that ended with this status."""
    labels = {"grpc_service": SERVICE_NAME, "grpc_method": method, "grpc_code": code}
    return sum(
        sample.value
        for metric in intake.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "grpc_server_handled_total" and labels.items() <= sample.labels.items()
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wire", [b"\xff\xff\xff", b"\x0a\x7f", b"\x08", b"\x1f\x8b\x08"])
async def test_malformed_messages_are_refused_on_every_method(
    intake: Intake, method: str, wire: bytes
) -> None:
    with capture_logs() as logs:
        error = await refusal(send_raw(intake, method, wire))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")
    await until(lambda: handled(intake, method, error.code) == 1)
    assert logs == []


async def test_invalid_utf8_path_is_refused_and_counted(intake: Intake) -> None:
    error = await refusal(send_raw(intake, "InitiateUpload", b"\x0a\x01d\x12\x03a\xff\xfe"))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")
    assert refused(intake, "MALFORMED_MESSAGE") == 1


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"UploadChunk"}))
async def test_message_above_the_method_limit_is_refused(intake: Intake, method: str) -> None:
    """The message has only an unknown field, so that its size is the only error."""
    error = await refusal(send_raw(intake, method, unknown_field(MESSAGE_LIMITS[method] + 1)))
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    assert refused(intake, "MESSAGE_TOO_LARGE") == 1
    assert (await intake.stub.GetLimits(pb.GetLimitsRequest())).max_block_bytes == MIB


def unknown_field(size: int) -> bytes:
    """Return a message of this size that contains only field 2,000."""
    tag, length = b"\x82\x7d", size - 2 - 4
    return (
        tag
        + bytes((length >> shift) & 0x7F | (0x80 if shift < 21 else 0) for shift in (0, 7, 14, 21))
        + bytes(length)
    )


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests_work_on_every_kind_of_method(
    intake: Intake, algorithm: grpc.Compression
) -> None:
    data = b"the same again and again " * 10_000
    async with grpc.aio.insecure_channel(intake.address, compression=algorithm) as channel:
        stub: Any = type(intake.stub)(channel)
        upload = await stub.InitiateUpload(pb.InitiateUploadRequest(drive="d", path="p" * 900))
        chunk = await stub.UploadChunk(
            pb.UploadChunkRequest(upload_id=upload.upload_id, number=0, data=data)
        )
        header = pb.ChunkHeader(upload_id=upload.upload_id, number=1, size=len(data))
        call = stub.UploadStream(iter([pb.UploadStreamRequest(header=header, data=data)]))
        block = await call.read()
        inline = pb.InitiateUploadRequest(drive="d", path="q", inline_data=data)
        await stub.InitiateUpload(inline)
        watch = stub.WatchUpload(pb.WatchUploadRequest(upload_id=upload.upload_id))
        status = (await watch.read()).status
    assert chunk.accepted.crc32c == block.accepted.crc32c == crc32c(data)
    assert status.received_chunks == 2


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
@pytest.mark.parametrize("method", sorted(set(METHODS) - {"UploadChunk"}))
async def test_zip_bomb_is_inflated_to_the_method_limit_only(
    intake: Intake, method: str, compress: Any
) -> None:
    """gRPC's own decompression, which would inflate it to 31 MiB, is disabled."""
    bomb = compress(unknown_field(31 * MIB))
    error = await refusal(send_raw(intake, method, bomb))
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")


async def test_repeated_fields_are_counted_before_they_are_used(intake: Intake) -> None:
    many = pb.InitiateUploadRequest(drive="d", path="p", metadata={str(n): "" for n in range(200)})
    error = await refusal(intake.stub.InitiateUpload(many))
    assert (error.reason, error.field) == ("TOO_MANY_METADATA_ENTRIES", "metadata")
    states = pb.ListUploadsRequest(states=[pb.UPLOAD_STATE_PENDING] * 1000)
    error = await refusal(intake.stub.ListUploads(states))
    assert (error.reason, error.field) == ("TOO_MANY_STATES", "states")


async def test_a_call_without_a_message_is_refused(intake: Intake) -> None:
    channel: Any = intake.channel
    error = await refusal(channel.stream_unary(f"/{SERVICE_NAME}/GetLimits")(iter(())))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "NO_MESSAGE")


@pytest.mark.rule(11)
@pytest.mark.parametrize("method", ["GetLimits", "InitiateUpload", "WatchUpload", "UploadStream"])
async def test_call_without_its_message_times_out(method: str) -> None:
    async with running_intake(server=ServerOptions(message_seconds=0.2)) as intake:
        channel: Any = intake.channel
        call = channel.stream_stream(f"/{SERVICE_NAME}/{method}")()
        error = await refusal(call.read())
        assert (error.code, error.reason) == ("DEADLINE_EXCEEDED", "MESSAGE_STALLED")
        assert error.retry_after_seconds is not None
        assert refused(intake, "MESSAGE_STALLED") == 1


async def test_later_stream_messages_have_no_deadline() -> None:
    async with running_intake(server=ServerOptions(message_seconds=0.2)) as intake:
        upload = await intake.initiate()
        call = intake.stream()
        for number in range(2):
            header = pb.ChunkHeader(upload_id=upload.upload_id, number=number, size=1)
            await call.write(pb.UploadStreamRequest(header=header, data=b"x"))
            assert (await call.read()).accepted.number == number
            await asyncio.sleep(0.5)  # longer than a first message may take
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK


@pytest.mark.rule(11)
@pytest.mark.parametrize("method", ["GetLimits", "InitiateUpload", "WatchUpload", "UploadStream"])
async def test_half_messages_of_one_connection_are_bounded(method: str) -> None:
    """Of 40 messages of 32 MiB without their last byte, little more than the bound is kept."""
    bound = 16 * MIB
    options = ServerOptions(unfinished_connection_bytes=bound)
    async with running_intake(server=options) as intake:
        async with half_messages(intake.address) as connection:
            await connection.begin(f"/{SERVICE_NAME}/{method}", 40, 32 * MIB)
            # Ended calls may have left 32 MiB unread, and each may hold one message.
            allowed = bound + 32 * MIB + 40 * MESSAGE_LIMITS[method]
            await until(lambda: connection.open_bytes <= allowed)
            # The last refusals are counted after their status was sent.
            await until(lambda: refused(intake, "UNFINISHED_MESSAGES") == len(connection.ended) > 0)
        assert (await intake.stub.GetLimits(pb.GetLimitsRequest())).max_block_bytes == MIB


async def test_request_is_freed_once_its_handler_drops_it() -> None:
    """No layer between gRPC and the handler keeps a reference: a watch may be open for hours."""

    class Request:
        pass

    alive: list[weakref.ref[Request]] = []
    reached, leave = asyncio.Event(), asyncio.Event()

    def parse(_: bytes) -> Request:
        request = Request()
        alive.append(weakref.ref(request))
        return request

    async def wait(request: Request, _: Any) -> bytes:
        del request
        reached.set()
        await leave.wait()
        return b""

    server = build_server(ServerOptions(), [server_layers(RpcMetrics(), LocalAuthenticator())])
    handler = grpc.unary_unary_rpc_method_handler(wait, RequestFormat(parse, 100))
    service = grpc.method_handlers_generic_handler("test.Keep", {"Keep": handler})
    server.add_generic_rpc_handlers((service,))
    address = listen(server, "TEST", Address("127.0.0.1", 0))
    await server.start()
    async with grpc.aio.insecure_channel(str(address)) as channel:
        call = channel.unary_unary("/test.Keep/Keep", None, None)(b"x")
        await reached.wait()
        assert alive[0]() is None
        leave.set()
        await call
    await server.stop(None)
