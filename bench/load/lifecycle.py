"""Start and end of uploads, and synchronization of a generator with its parent."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from bench import start_signal
from bench.load.authorized import authorized
from bench.load.chunk_sender import Upload
from sluice.upload.v1 import upload_pb2, upload_pb2_grpc

CHANNEL: Final = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Without it all channels to one server share one connection.
    ("grpc.use_local_subchannel_pool", 1),
]
OPENED_AT_ONCE: Final = 50
_WAIT_SECONDS: Final = 30
_ATTEMPTS: Final = 40
_RETRY_SECONDS: Final = 0.25


@asynccontextmanager
async def connected(
    target: str, connections: int, token_file: Path | None = None
) -> AsyncIterator[Sequence[grpc.aio.Channel]]:
    """Open so many connections and wait until all are ready.

    Their calls carry the token of the file.
    """
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(target, options=CHANNEL))
            for _ in range(connections)
        ]
        for channel in channels:
            await channel.channel_ready()
        yield [authorized(channel, token_file) for channel in channels]


class EndedOtherwiseError(Exception):
    """An upload that should be COMPLETED ended in another state."""


async def open_upload(channel: grpc.aio.Channel, drive: str, chunk_bytes: int) -> Upload:
    """Open a new upload of uniform chunks at a unique path.

    Retry for a while when the server is full, as it may still be after a previous load.
    """
    stub = upload_pb2_grpc.IntakeServiceStub(channel)
    request = upload_pb2.InitiateUploadRequest(
        drive=drive, path=f"load/{uuid.uuid4()}", chunk_size=chunk_bytes
    )
    for _ in range(_ATTEMPTS):
        try:
            return Upload((await stub.InitiateUpload(request)).upload_id)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
        await asyncio.sleep(_RETRY_SECONDS)
    return Upload((await stub.InitiateUpload(request)).upload_id)


async def open_uploads(
    channels: Sequence[grpc.aio.Channel], drive: str, chunk_bytes: int, number: int
) -> Sequence[Upload]:
    """Open so many new uploads, spread over the connections."""
    room = asyncio.Semaphore(OPENED_AT_ONCE)

    async def one(index: int) -> Upload:
        async with room:
            return await open_upload(channels[index % len(channels)], drive, chunk_bytes)

    return await asyncio.gather(*(one(index) for index in range(number)))


_ENDED = (
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
)
"""Status codes of CompleteUpload for an upload that ended without a node."""


async def complete(channel: grpc.aio.Channel, upload: Upload) -> None:
    """Complete an upload and wait until it is COMPLETED.

    Raise EndedOtherwiseError.
    """
    stub = upload_pb2_grpc.IntakeServiceStub(channel)
    request = upload_pb2.CompleteUploadRequest(
        upload_id=upload.upload_id, total_chunks=upload.total
    )
    request.wait.FromSeconds(_WAIT_SECONDS)
    while True:
        try:
            status = (await stub.CompleteUpload(request)).status
        except grpc.aio.AioRpcError as error:
            if error.code() in _ENDED:
                raise EndedOtherwiseError(error.code().name) from error
            raise
        if status.state == upload_pb2.UPLOAD_STATE_COMPLETED:
            return
        if status.state != upload_pb2.UPLOAD_STATE_COMPLETING:
            raise EndedOtherwiseError(status.failure_reason or str(status.state))


async def abort(channel: grpc.aio.Channel, upload: Upload) -> None:
    """Abort an upload, so that it holds no room for the next measurement."""
    stub = upload_pb2_grpc.IntakeServiceStub(channel)
    await stub.AbortUpload(upload_pb2.AbortUploadRequest(upload_id=upload.upload_id))


async def await_start() -> None:
    """Run `bench.start_signal.await_start` in a thread."""
    await asyncio.to_thread(start_signal.await_start)


async def report(figures: Mapping[str, object], *, linger: bool) -> None:
    """Run `bench.start_signal.report` in a thread."""
    await asyncio.to_thread(start_signal.report, figures, linger=linger)
