"""Calls that a server refuses while their client still sends, for clients of any language."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from sluice.upload.v1 import upload_pb2 as pb
from sluice_backends.memory.chunks import MemoryChunkStore
from sluice_backends.memory.ledger import MemoryLedger
from sluice_backends.memory.queue import InProcessQueue
from sluice_common.rpc.interceptors import server_layers
from sluice_common.rpc.messages import RequestFormat
from sluice_common.rpc.server import build_server
from sluice_common.settings.rpc_options import ServerOptions
from sluice_core.errors import FailedPrecondition
from sluice_core.ledger.options import LedgerOptions
from sluice_intake.bootstrap import add_intake
from sluice_intake.deps import IntakeDeps
from sluice_intake.drives import DefaultDrives
from sluice_intake.metrics import IntakeMetrics
from sluice_intake.rpc.servicer import SERVICE_NAME
from support.intake import block, frames_of, header
from support.sending import send_all
from support.token_authenticator import GOOD, TokenAuthenticator

MIB = 1024 * 1024
LARGEST_MESSAGE = 9 * MIB
_FLOOD = block(bytes(64 * 1024))
_BULK = bytes(8 * MIB)
"""Much larger than a stream's window, so the client is still sending when it is refused."""


@dataclass(frozen=True, slots=True, repr=False)  # pytest shows fixtures: 26 MiB take it 15 s
class RefusedCall:
    """One call, with serialized messages, so that a client needs no stubs.

    Attributes:
        flood: message that is repeated until the call ends.
        expected: the name of the status and the reason; the reason is empty if gRPC itself refuses.
        is_known: whether the caller sends a token.
    """

    name: str
    method: str
    client_streams: bool
    server_streams: bool
    messages: tuple[Message, ...]
    expected: tuple[str, str]
    flood: Message | None = None
    is_known: bool = True

    def to_json(self, times: int) -> dict[str, object]:
        def text(message: Message) -> str:
            return base64.b64encode(message.SerializeToString()).decode()

        return {
            "name": self.name,
            "method": self.method,
            "client_streams": self.client_streams,
            "server_streams": self.server_streams,
            "metadata": dict(GOOD) if self.is_known else {},
            "messages": [text(message) for message in self.messages],
            "flood": None if self.flood is None else text(self.flood),
            "times": times,
        }


def _intake(name: str, method: str, *messages: Message, **fields: Any) -> RefusedCall:
    kind = {"UploadStream": (True, True), "WatchUpload": (False, True)}
    streams = kind.get(method, (False, False))
    return RefusedCall(name, f"/{SERVICE_NAME}/{method}", *streams, messages, **fields)


def _join(name: str, **fields: Any) -> RefusedCall:
    return RefusedCall(name, "/test.Refusing/Join", True, False, (_FLOOD,), flood=_FLOOD, **fields)


UNKNOWN = ("UNAUTHENTICATED", "BAD_CREDENTIALS")
NO_UPLOAD = ("NOT_FOUND", "UPLOAD_NOT_FOUND")
TOO_LARGE = ("RESOURCE_EXHAUSTED", "")


def refused_calls(upload_id: str) -> Sequence[RefusedCall]:
    """Return every kind of call, refused before, at and after its first message."""
    chunk = pb.UploadChunkRequest(upload_id="nothing", data=_BULK)
    watch = pb.WatchUploadRequest(upload_id="nothing")
    huge = pb.UploadChunkRequest(upload_id="nothing", data=bytes(LARGEST_MESSAGE + MIB))
    opening = header("nothing", 0, 64 * MIB)
    flood: dict[str, Any] = {"flood": _FLOOD}
    again = tuple(frames_of(upload_id, 0, b"x"))
    return (
        _intake(
            "bidi, unknown", "UploadStream", opening, expected=UNKNOWN, is_known=False, **flood
        ),
        _intake("bidi, no upload", "UploadStream", opening, expected=NO_UPLOAD, **flood),
        _intake(
            "bidi, after an answer",
            "UploadStream",
            *again,
            expected=("INVALID_ARGUMENT", "BLOCK_BEFORE_HEADER"),
            **flood,
        ),
        _intake("bidi, too large", "UploadStream", block(huge.data), expected=TOO_LARGE, **flood),
        _join("client stream, unknown", expected=UNKNOWN, is_known=False),
        _join("client stream, refused", expected=("FAILED_PRECONDITION", "NOT_YET")),
        _intake("unary, unknown", "UploadChunk", chunk, expected=UNKNOWN, is_known=False),
        _intake("unary, no upload", "UploadChunk", chunk, expected=NO_UPLOAD),
        _intake("unary, too large", "UploadChunk", huge, expected=TOO_LARGE),
        _intake("server stream, unknown", "WatchUpload", watch, expected=UNKNOWN, is_known=False),
        _intake("server stream, no upload", "WatchUpload", watch, expected=NO_UPLOAD),
        # Last: the connection stays usable after all refusals.
        _intake("unary, served", "GetLimits", pb.GetLimitsRequest(), expected=("OK", "")),
    )


async def _refuse(requests: AsyncIterator[bytes], context: Any) -> bytes:
    async for _ in requests:
        raise FailedPrecondition("NOT_YET", "Another call is required first; make that call.")
    return b""


@asynccontextmanager
async def refusing_server() -> AsyncIterator[tuple[str, Sequence[RefusedCall]]]:
    """Run an intake that requires a token, and a client-stream method; yield address and cases."""
    metrics, ledger = IntakeMetrics(), MemoryLedger(LedgerOptions())
    deps = IntakeDeps(ledger, MemoryChunkStore(), InProcessQueue(), DefaultDrives(), metrics)
    options = ServerOptions(max_message_bytes=LARGEST_MESSAGE)
    server = build_server(options, [server_layers(metrics.rpc, TokenAuthenticator())])
    add_intake(server, deps)
    join = grpc.stream_unary_rpc_method_handler(_refuse, RequestFormat(bytes, MIB))
    handlers = {"Join": join}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.Refusing", handlers),)
    )
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as opened:
            channel: Any = opened  # the type stubs require serializers
            initiate = channel.unary_unary(f"/{SERVICE_NAME}/InitiateUpload")
            request = pb.InitiateUploadRequest(drive="d", path="p")
            answer = await initiate(request.SerializeToString(), metadata=GOOD)
        upload_id = pb.InitiateUploadResponse.FromString(answer).upload_id
        yield address, refused_calls(upload_id)
    finally:
        await server.stop(None)


# ------------------------------------------------------------------ outcomes of calls


def reason_of(status: status_pb2.Status | None) -> str:
    """Return the reason in the details; empty without any."""
    info = error_details_pb2.ErrorInfo()
    details = [] if status is None else [one for one in status.details if one.Unpack(info)]
    return info.reason if details else ""


def ended_in_json(line: str) -> tuple[str, tuple[str, str], list[str]]:
    """Parse a client's output line: the case's name, its status and reason, and the frames."""
    ended = json.loads(line)
    code = next((one.name for one in grpc.StatusCode if one.value[0] == ended["code"]), "NONE")
    status = status_pb2.Status.FromString(base64.b64decode(ended["status"] or ""))
    return ended["case"], (code, reason_of(status)), ended.get("frames") or []


def _ended(error: grpc.RpcError | grpc.aio.AioRpcError) -> tuple[str, str]:
    call = cast("grpc.Call", error)
    return call.code().name, reason_of(rpc_status.from_call(call))


def _wires(case: RefusedCall) -> Iterator[bytes]:
    yield from (message.SerializeToString() for message in case.messages)
    if case.flood is not None:
        yield from itertools.repeat(case.flood.SerializeToString())


def call_in_sync(address: str, case: RefusedCall) -> tuple[str, str]:
    """Make the call with grpc's synchronous client."""
    metadata = GOOD if case.is_known else ()
    with grpc.insecure_channel(address) as opened:
        channel: Any = opened  # its stubs want serializers
        try:
            if case.client_streams and case.server_streams:
                list(channel.stream_stream(case.method)(_wires(case), 30, metadata))
            elif case.client_streams:
                channel.stream_unary(case.method)(_wires(case), 30, metadata)
            elif case.server_streams:
                list(channel.unary_stream(case.method)(next(_wires(case)), 30, metadata))
            else:
                channel.unary_unary(case.method)(next(_wires(case)), 30, metadata)
        except grpc.RpcError as error:
            return _ended(error)
    return "OK", ""


async def call_in_asyncio(channel: Any, case: RefusedCall) -> tuple[str, str]:
    """Make the call with grpc.aio, sending as docs/wire.md describes."""
    metadata = GOOD if case.is_known else None
    writing: asyncio.Task[None] | None = None
    try:
        if case.client_streams:
            kind = channel.stream_stream if case.server_streams else channel.stream_unary
            call = kind(case.method)(timeout=30, metadata=metadata)
            writing = asyncio.create_task(send_all(call, _wires(case)))
            if case.server_streams:
                while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
                    pass
            else:
                await call
        elif case.server_streams:
            call = channel.unary_stream(case.method)
            async for _ in call(next(_wires(case)), timeout=30, metadata=metadata):
                pass
        else:
            call = channel.unary_unary(case.method)
            await call(next(_wires(case)), timeout=30, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return _ended(error)
    finally:
        if writing is not None:
            writing.cancel()
    return "OK", ""
