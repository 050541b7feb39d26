"""A plain client on the generated stubs, as users of any language write it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from grpc.aio import Metadata
from grpc_status import rpc_status

from sluice.repository.v1 import repository_pb2, repository_pb2_grpc
from sluice.upload.v1 import upload_pb2, upload_pb2_grpc
from support.sending import send_all

BLOCK = 1024 * 1024
EOF = grpc.aio.EOF  # type: ignore[attr-defined] # the stubs leave it out
CHANNEL_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of a test object."""

    number: int
    data: bytes
    is_last: bool = False


def cut(data: bytes, sizes: Iterable[int]) -> list[Chunk]:
    """Cut `data` into chunks of these sizes (repeated as long as needed), in order."""
    pieces: list[bytes] = []
    at = 0
    for size in sizes:
        if at >= len(data):
            break
        pieces.append(data[at : at + size])
        at += size
    assert at >= len(data), "the sizes do not cover the data"
    return [Chunk(n, piece, n == len(pieces) - 1) for n, piece in enumerate(pieces)]


def stream_requests(
    upload_id: str, chunks: Sequence[Chunk]
) -> Iterator[upload_pb2.UploadStreamRequest]:
    for position, chunk in enumerate(chunks):
        yield upload_pb2.UploadStreamRequest(
            header=upload_pb2.ChunkHeader(
                upload_id=upload_id if position == 0 else "",
                number=chunk.number,
                size=len(chunk.data),
                is_last=chunk.is_last,
            ),
            data=chunk.data[:BLOCK],
        )
        for at in range(BLOCK, len(chunk.data), BLOCK):
            yield upload_pb2.UploadStreamRequest(data=chunk.data[at : at + BLOCK])


class WireClient:
    """Calls the services through the generated stubs."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.intake = upload_pb2_grpc.IntakeServiceStub(channel)
        self.repository = repository_pb2_grpc.RepositoryServiceStub(channel)

    async def initiate(
        self, path: str, *, drive: str = "wire", **fields: object
    ) -> upload_pb2.InitiateUploadResponse:
        request = upload_pb2.InitiateUploadRequest(drive=drive, path=path, **fields)  # type: ignore[arg-type]
        return await self.intake.InitiateUpload(request)

    async def send_unary(self, upload_id: str, chunks: Sequence[Chunk], parallel: int = 4) -> None:
        """Send each chunk by UploadChunk, `parallel` at a time."""
        waiting = list(reversed(chunks))

        async def caller() -> None:
            while waiting:
                chunk = waiting.pop()
                await self.intake.UploadChunk(
                    upload_pb2.UploadChunkRequest(
                        upload_id=upload_id,
                        number=chunk.number,
                        data=chunk.data,
                        is_last=chunk.is_last,
                    )
                )

        async with asyncio.TaskGroup() as group:
            for _ in range(parallel):
                group.create_task(caller())

    async def send_stream(self, upload_id: str, chunks: Sequence[Chunk]) -> list[int]:
        """Send all chunks over one stream in the given order; return the accepted numbers.

        Raises `AioRpcError` with the server's status.
        """
        open_stream: Any = self.intake.UploadStream  # the stubs want an iterator; we write
        call = open_stream()
        accepted: list[int] = []
        writing = asyncio.create_task(send_all(call, stream_requests(upload_id, chunks)))
        try:
            while (answer := await call.read()) is not EOF:
                if answer.WhichOneof("event") == "accepted":
                    accepted.append(answer.accepted.number)
            if (code := await call.code()) is not grpc.StatusCode.OK:
                trailers = await call.trailing_metadata()
                details = await call.details()
                raise grpc.aio.AioRpcError(code, Metadata(), trailers, details, "")
            return accepted
        finally:
            call.cancel()
            await writing

    async def send_streams(self, upload_id: str, chunks: Sequence[Chunk], streams: int) -> None:
        """Distribute the chunks over several concurrent streams."""
        async with asyncio.TaskGroup() as group:
            for first in range(min(streams, len(chunks))):
                group.create_task(self.send_stream(upload_id, chunks[first::streams]))

    async def complete(
        self, upload_id: str, total_chunks: int | None = None, wait_seconds: int = 60
    ) -> upload_pb2.UploadStatus:
        """Complete and return the upload's status; that of a failed upload is in the error."""
        request = upload_pb2.CompleteUploadRequest(
            upload_id=upload_id, wait=Duration(seconds=wait_seconds)
        )
        if total_chunks is not None:
            request.total_chunks = total_chunks
        try:
            return (await self.intake.CompleteUpload(request)).status
        except grpc.aio.AioRpcError as error:
            rich = rpc_status.from_call(cast("grpc.Call", error))
            ended = upload_pb2.UploadStatus()
            if rich is None or not [one for one in rich.details if one.Unpack(ended)]:
                raise
            return ended

    async def status(self, upload_id: str) -> upload_pb2.UploadStatus:
        request = upload_pb2.GetUploadStatusRequest(upload_id=upload_id)
        return (await self.intake.GetUploadStatus(request)).status

    async def read_sha256(self, node_id: str) -> tuple[str, int]:
        """Return the hex SHA-256 and the size of a node's bytes, read by ReadNode."""
        digest, size = hashlib.sha256(), 0
        request = repository_pb2.ReadNodeRequest(node_id=node_id)
        async for answer in self.repository.ReadNode(request):
            digest.update(answer.data)
            size += len(answer.data)
        return digest.hexdigest(), size
