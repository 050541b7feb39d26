"""An intake server on memory adapters, and a plain client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import grpc.aio

from sluice.upload.v1 import upload_pb2 as pb
from sluice.upload.v1.upload_pb2_grpc import IntakeServiceStub
from sluice_backends.memory.chunks import MemoryChunkStore
from sluice_backends.memory.ledger import MemoryLedger
from sluice_backends.memory.queue import InProcessQueue
from sluice_backends.memory.rates import MemoryRateBuckets
from sluice_common.rates.limiter import RateLimiter
from sluice_common.rpc.errors import from_rpc_error
from sluice_common.rpc.interceptors import server_layers
from sluice_common.rpc.rate_limiting import RateLimiting
from sluice_common.rpc.reflection import add_reflection
from sluice_common.rpc.server import build_server
from sluice_common.security.authentication import Authenticator
from sluice_common.settings.rates import Rates
from sluice_common.settings.rpc_options import ServerOptions
from sluice_core.access.principal import Principal
from sluice_core.errors import SluiceError
from sluice_core.ports import ChunkStore, UploadLedger, WorkQueue
from sluice_core.uploads.checksums import crc32c
from sluice_intake.bootstrap import add_intake
from sluice_intake.deps import IntakeDeps
from sluice_intake.drives import DefaultDrives, DriveDirectory
from sluice_intake.metrics import IntakeMetrics
from sluice_intake.options import IntakeOptions
from sluice_intake.rpc.servicer import SERVICE_NAME
from support.sending import send_all

if TYPE_CHECKING:  # a name that only the type stubs have
    from sluice.upload.v1.upload_pb2_grpc import IntakeServiceAsyncStub

BLOCK = 1024 * 1024
_UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class TenantFromHeader:
    """Accepts `authorization: TENANT` unchecked; the default tenant is "default"."""

    async def authenticate(self, authorization: str | None) -> Principal:
        return Principal(authorization or "default", "tester", frozenset({"tenant:admin"}))


@dataclass(slots=True)
class Answered:
    """The answers of a stream and its final error."""

    accepted: list[pb.Accepted] = field(default_factory=list)
    stored: list[pb.Stored] = field(default_factory=list)
    throttled: list[pb.Throttled] = field(default_factory=list)
    error: SluiceError | None = None

    @property
    def numbers(self) -> list[int]:
        return [accepted.number for accepted in self.accepted]

    def add(self, response: pb.UploadStreamResponse) -> None:
        event = response.WhichOneof("event")
        if event == "accepted":
            self.accepted.append(response.accepted)
        elif event == "stored":
            self.stored.append(response.stored)
        else:
            assert event == "throttled"
            self.throttled.append(response.throttled)


@dataclass(frozen=True, slots=True)
class Intake:
    """A running server, its ports, and a tenant's client."""

    ledger: UploadLedger
    chunks: ChunkStore
    queue: WorkQueue
    metrics: IntakeMetrics
    stub: IntakeServiceAsyncStub
    channel: grpc.aio.Channel
    address: str
    tenant: str = "default"

    def of(self, tenant: str) -> Intake:
        """Return a client of another tenant."""
        return replace(self, tenant=tenant)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", self.tenant),)

    async def initiate(self, path: str = "a/b.bin", **fields: Any) -> pb.InitiateUploadResponse:
        request = pb.InitiateUploadRequest(path=path, **{"drive": "photos", **fields})
        return await self.stub.InitiateUpload(request, metadata=self.metadata)

    async def send(self, upload_id: str, number: int, data: bytes, **fields: Any) -> pb.Accepted:
        """Send one chunk by UploadChunk."""
        request = pb.UploadChunkRequest(
            upload_id=upload_id, number=number, data=data, **{"crc32c": crc32c(data), **fields}
        )
        return (await self.stub.UploadChunk(request, metadata=self.metadata)).accepted

    def raw(self, method: str) -> Any:
        """Return UploadStream or UploadChunk as a callable on an iterator of raw messages."""
        channel: Any = self.channel  # its stubs want serializers
        kind = channel.stream_stream if method == "UploadStream" else channel.stream_unary
        return kind(f"/{SERVICE_NAME}/{method}")

    def stream(self) -> Any:
        """Return an UploadStream call to write to and read from."""
        method: Any = self.stub.UploadStream  # its stubs want an iterator of requests
        return method(metadata=self.metadata)

    async def send_stream(self, frames: Iterable[pb.UploadStreamRequest]) -> Answered:
        """Send all frames and half-close while reading all answers."""
        call, answered = self.stream(), Answered()
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(send_all(call, frames))
            answered.error = await read_all(call, answered)
            writer.cancel()  # a server that ends the stream takes no more
        return answered

    async def complete(self, upload_id: str, **fields: Any) -> pb.UploadStatus:
        request = pb.CompleteUploadRequest(upload_id=upload_id, **fields)
        return (await self.stub.CompleteUpload(request, metadata=self.metadata)).status

    async def abort(self, upload_id: str) -> pb.UploadStatus:
        request = pb.AbortUploadRequest(upload_id=upload_id)
        return (await self.stub.AbortUpload(request, metadata=self.metadata)).status

    async def watch(
        self, upload_id: str, after_sequence: int = 0
    ) -> AsyncIterator[pb.UploadStatus]:
        request = pb.WatchUploadRequest(upload_id=upload_id, after_sequence=after_sequence)
        async for response in self.stub.WatchUpload(request, metadata=self.metadata):
            yield response.status

    async def status(self, upload_id: str) -> pb.UploadStatus:
        request = pb.GetUploadStatusRequest(upload_id=upload_id)
        return (await self.stub.GetUploadStatus(request, metadata=self.metadata)).status


@asynccontextmanager
async def running_intake(
    options: IntakeOptions | None = None,
    *,
    chunks: ChunkStore | None = None,
    ledger: UploadLedger | None = None,
    drives: DriveDirectory | None = None,
    server: ServerOptions | None = None,
    rates: Rates | None = None,
    authenticator: Authenticator | None = None,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Intake]:
    """Run a server on memory adapters; by default `authorization: TENANT` names the tenant."""
    options = options or IntakeOptions()
    metrics = IntakeMetrics()
    limiter = None
    if rates is not None:
        limiter = RateLimiter(MemoryRateBuckets(), rates.to_rates(), metrics.rates)
    deps = IntakeDeps(
        ledger=ledger or MemoryLedger(options.ledger),
        chunks=chunks or MemoryChunkStore(),
        queue=InProcessQueue(),
        drives=drives or DefaultDrives(),
        metrics=metrics,
        options=options,
        limiter=limiter,
    )
    tuning = server or ServerOptions()
    inner = () if limiter is None else (RateLimiting(limiter),)
    layers = server_layers(
        metrics.rpc, authenticator or TenantFromHeader(), tuning, inner=inner, clock=clock
    )
    running = build_server(tuning, [layers])
    add_intake(running, deps)
    add_reflection(running, (SERVICE_NAME,))
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    try:
        address = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(address, options=_UNLIMITED) as channel:
            yield Intake(
                deps.ledger,
                deps.chunks,
                deps.queue,
                metrics,
                IntakeServiceStub(channel),
                channel,
                address,
            )
    finally:
        await running.stop(None)


async def read_all(call: Any, answered: Answered) -> SluiceError | None:
    """Read a stream to its end and return its error."""
    try:
        while (response := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            answered.add(response)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    return None


async def refusal(call: Awaitable[object]) -> SluiceError:
    """Return the error of a call that must be refused."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    raise AssertionError("the call was not refused")


def header(upload_id: str, number: int, size: int, **fields: Any) -> pb.UploadStreamRequest:
    """Return a frame that opens a chunk."""
    return pb.UploadStreamRequest(
        header=pb.ChunkHeader(upload_id=upload_id, number=number, size=size, **fields)
    )


def block(data: bytes) -> pb.UploadStreamRequest:
    return pb.UploadStreamRequest(data=data)


def frames_of(
    upload_id: str, number: int, data: bytes, *, block_bytes: int = BLOCK, **fields: Any
) -> list[pb.UploadStreamRequest]:
    """Return a whole chunk as frames, with its checksum."""
    opening = header(upload_id, number, len(data), **{"crc32c": crc32c(data), **fields})
    pieces = range(0, len(data), block_bytes)
    return [opening, *(block(data[at : at + block_bytes]) for at in pieces)]


def cut(data: bytes, size: int) -> Sequence[bytes]:
    """Split `data` into chunks of `size` bytes; the last may be smaller."""
    return [data[at : at + size] for at in range(0, len(data), size)] or [b""]


async def assert_a_good_request_succeeds(intake: Intake) -> None:
    """Upload a chunk over a stream and one in a unary call."""
    upload = await intake.initiate("good/after-bad")
    answered = await intake.send_stream(frames_of(upload.upload_id, 0, b"good"))
    assert (answered.error, answered.numbers) == (None, [0])
    assert not (await intake.send(upload.upload_id, 1, b"good too")).duplicate


def assert_is(error: SluiceError, code: str, reason: str, field: str | None) -> None:
    """Compare what a client acts on; the message has to be a sentence."""
    assert (error.code, error.reason, error.field) == (code, reason, field)
    assert error.message.endswith(".")
