"""An in-memory IntakeService with scripted faults, for tests of clients."""

# ruff: noqa: N802 (methods have the names of the contract)

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import grpc.aio
from awscrt.checksums import crc32c

from sluice.upload.v1 import upload_pb2, upload_pb2_grpc
from support.fake_upload import FakeUpload
from support.scripted_faults import Break, CallFault, Context, StreamFault, break_stream, refuse

CHUNK_BYTES = 64 * 1024
BLOCK_BYTES = 16 * 1024
INLINE_BYTES = 1024


class FakeIntake(upload_pb2_grpc.IntakeServiceServicer):
    """The fake service.

    Scripts are lists that calls consume from the front: each UploadStream takes one `StreamFault`,
    each unary call one `CallFault` of its method. Without a script entry a call succeeds. `resent`
    records what a client must never do: send a chunk again after its acknowledgement.
    """

    def __init__(self) -> None:
        self.uploads: dict[str, FakeUpload] = {}
        self.lost: set[str] = set()
        self.stream_faults: list[StreamFault] = []
        self.call_faults: dict[str, list[CallFault]] = defaultdict(list)
        self.calls: Counter[str] = Counter()
        self.resent: list[int] = []
        self.take_back_at_completion: list[set[int]] = []
        """For each CompleteUpload that finds every chunk: chunks that turn out damaged (rule 8)."""
        self.lose_everything_after: int | None = None
        """Accepted chunks until the ledger is emptied (rule 28)."""
        self.silent_watches = 0
        """This many WatchUpload calls send nothing until their deadline."""
        self.hold_completing = 0
        """CompleteUpload answers COMPLETING this often before COMPLETED."""
        self.fail_at_completion: tuple[grpc.StatusCode, str] | None = None
        """Uploads end as FAILED with this reason."""
        self.answers_failures = True
        """CompleteUpload of a failed upload answers its error; older servers answer OK."""
        self.max_ranges = 1000
        self.max_chunk_bytes = 64 * CHUNK_BYTES
        self.preferred_chunk_bytes = CHUNK_BYTES
        self.max_inline_bytes = INLINE_BYTES
        self.wait_for_chunk: int | None = None
        """Chunks above this one are throttled until it has arrived."""
        self.hold_from: int | None = None
        """Chunks from this one on are throttled for as long as this is set."""
        self.order: list[int] = []
        """Chunk numbers in the order of their headers."""
        self.tokens: list[str] = []
        self._ids = count(1)
        self._accepted = 0
        self._changed = asyncio.Condition()

    # -- assertions and control

    @property
    def completed(self) -> list[FakeUpload]:
        done = upload_pb2.UPLOAD_STATE_COMPLETED
        return [upload for upload in self.uploads.values() if upload.state == done]

    async def received(self, count: int) -> None:
        """Return when some upload has this many chunks."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(
                lambda: any(len(one.chunks) >= count for one in self.uploads.values())
            )

    async def release(self) -> None:
        """Release the chunks that `hold_from` holds."""
        async with self._changed:
            self.hold_from = None
            self._changed.notify_all()

    # -- unary calls

    async def GetLimits(
        self, request: upload_pb2.GetLimitsRequest, context: Context
    ) -> upload_pb2.GetLimitsResponse:
        await self._enter("GetLimits", context)
        return upload_pb2.GetLimitsResponse(
            max_block_bytes=BLOCK_BYTES,
            max_chunk_bytes=self.max_chunk_bytes,
            max_unary_message_bytes=32 << 20,
            preferred_chunk_bytes=self.preferred_chunk_bytes,
            part_bytes=CHUNK_BYTES,
            max_object_bytes=1 << 40,
            max_chunks=10_000,
            max_inline_bytes=self.max_inline_bytes,
            durability=upload_pb2.DURABILITY_MEMORY,
        )

    async def InitiateUpload(
        self, request: upload_pb2.InitiateUploadRequest, context: Context
    ) -> upload_pb2.InitiateUploadResponse:
        lose_answer = await self._enter("InitiateUpload", context)
        if request.chunk_size > self.max_chunk_bytes:
            await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "BAD_CHUNK_SIZE")
        if len(request.inline_data) > self.max_inline_bytes:
            await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INLINE_TOO_LARGE")
        upload = next(
            (one for one in self.uploads.values() if one.request.request_id == request.request_id),
            None,
        )
        if upload is None:
            upload = FakeUpload(f"n1-{next(self._ids)}", request)
            self.uploads[upload.upload_id] = upload
            if request.HasField("inline_data"):
                upload.chunks[0] = request.inline_data
                upload.total = 1
                upload.state = upload_pb2.UPLOAD_STATE_COMPLETED
                if self.fail_at_completion is not None:
                    # Its completion has started and fails before it is requested.
                    upload.state = upload_pb2.UPLOAD_STATE_COMPLETING
        elif upload.request != request:
            await refuse(context, grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_CONFLICT")
        await self._leave(lose_answer, context)
        return upload_pb2.InitiateUploadResponse(
            upload_id=upload.upload_id,
            node_id=f"node-{upload.upload_id}",
            state=upload.state,
            chunk_size=CHUNK_BYTES,
            max_block_bytes=BLOCK_BYTES,
        )

    async def UploadChunk(
        self, request: upload_pb2.UploadChunkRequest, context: Context
    ) -> upload_pb2.UploadChunkResponse:
        await self._enter("UploadChunk", context)
        upload = await self._find(request.upload_id, context)
        header = upload_pb2.ChunkHeader(
            number=request.number,
            size=len(request.data),
            crc32c=request.crc32c,
            is_last=request.is_last,
        )
        await self._keep(upload, header, request.data, context)
        upload.acknowledged.add(request.number)
        accepted = upload_pb2.Accepted(number=request.number, size=header.size)
        return upload_pb2.UploadChunkResponse(accepted=accepted)

    async def GetUploadStatus(
        self, request: upload_pb2.GetUploadStatusRequest, context: Context
    ) -> upload_pb2.GetUploadStatusResponse:
        await self._enter("GetUploadStatus", context)
        upload = await self._find(request.upload_id, context)
        return upload_pb2.GetUploadStatusResponse(status=upload.status(self.max_ranges))

    async def CompleteUpload(
        self, request: upload_pb2.CompleteUploadRequest, context: Context
    ) -> upload_pb2.CompleteUploadResponse:
        lose_answer = await self._enter("CompleteUpload", context)
        upload = await self._find(request.upload_id, context)
        if request.HasField("total_chunks"):
            upload.total = request.total_chunks
        if request.HasField("crc32c"):
            upload.claimed_crc32c = request.crc32c
        if request.HasField("sha256"):
            upload.claimed_sha256 = request.sha256
        begun = [upload_pb2.UPLOAD_STATE_PENDING, upload_pb2.UPLOAD_STATE_UPLOADING]
        if self.fail_at_completion is not None:
            begun.append(upload_pb2.UPLOAD_STATE_COMPLETING)
        if upload.state in begun:
            await self._complete(upload, context)
        await self._leave(lose_answer, context)
        if self.answers_failures and upload.state == upload_pb2.UPLOAD_STATE_FAILED:
            code, reason = self.fail_at_completion or (
                grpc.StatusCode.FAILED_PRECONDITION,
                upload.failure[0],
            )
            await refuse(context, code, reason, attachment=upload.status(self.max_ranges))
        return upload_pb2.CompleteUploadResponse(status=upload.status(self.max_ranges))

    async def _complete(self, upload: FakeUpload, context: Context) -> None:
        missing = [n for n in range(upload.total or 0) if n not in upload.chunks]
        if missing:
            await refuse(
                context,
                grpc.StatusCode.FAILED_PRECONDITION,
                "CHUNKS_MISSING",
                {"needed_number": str(missing[0])},
            )
        if self.take_back_at_completion:
            for number in self.take_back_at_completion.pop(0):
                upload.chunks.pop(number, None)
                upload.acknowledged.discard(number)
            upload.sequence += 1
            return
        if upload.claimed_crc32c is not None and upload.claimed_crc32c != crc32c(upload.data):
            await refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "CLAIM_MISMATCH")
        upload.sequence += 1
        if self.fail_at_completion is not None:
            upload.state = upload_pb2.UPLOAD_STATE_FAILED
            upload.failure = (self.fail_at_completion[1], "It failed.")
        elif self.hold_completing:
            upload.state = upload_pb2.UPLOAD_STATE_COMPLETING
        else:
            upload.state = upload_pb2.UPLOAD_STATE_COMPLETED

    async def AbortUpload(
        self, request: upload_pb2.AbortUploadRequest, context: Context
    ) -> upload_pb2.AbortUploadResponse:
        await self._enter("AbortUpload", context)
        upload = await self._find(request.upload_id, context)
        upload.state = upload_pb2.UPLOAD_STATE_ABORTED
        return upload_pb2.AbortUploadResponse(status=upload.status(self.max_ranges))

    async def WatchUpload(
        self, request: upload_pb2.WatchUploadRequest, context: Context
    ) -> AsyncIterator[upload_pb2.WatchUploadResponse]:
        await self._enter("WatchUpload", context)
        upload = await self._find(request.upload_id, context)
        if self.silent_watches:
            self.silent_watches -= 1
            await asyncio.Event().wait()
        self.hold_completing -= 1
        if self.hold_completing <= 0 and upload.state == upload_pb2.UPLOAD_STATE_COMPLETING:
            upload.state = upload_pb2.UPLOAD_STATE_COMPLETED
        upload.sequence += 1
        yield upload_pb2.WatchUploadResponse(status=upload.status(self.max_ranges))

    async def ListUploads(
        self, request: upload_pb2.ListUploadsRequest, context: Context
    ) -> upload_pb2.ListUploadsResponse:
        """Return pages of two regardless of the request, so that clients must follow the tokens."""
        await self._enter("ListUploads", context)
        matching = [
            one
            for one in self.uploads.values()
            if not request.states or one.state in request.states
        ]
        start = int(request.page_token or 0)
        more = start + 2 < len(matching)
        return upload_pb2.ListUploadsResponse(
            uploads=[one.status(self.max_ranges) for one in matching[start : start + 2]],
            next_page_token=str(start + 2) if more else "",
        )

    # -- the stream

    async def UploadStream(
        self, messages: AsyncIterator[upload_pb2.UploadStreamRequest], context: Context
    ) -> AsyncIterator[upload_pb2.UploadStreamResponse]:
        await self._enter("UploadStream", context)
        fault = self.stream_faults.pop(0) if self.stream_faults else None
        upload: FakeUpload | None = None
        header = upload_pb2.ChunkHeader()
        data = bytearray()
        seen = 0
        async for message in messages:
            if fault is not None and seen == fault.at and fault.kind is not Break.LOSE_ACK:
                if fault.kind is Break.END:
                    return
                await break_stream(fault.kind, context, upload.first_missing if upload else 0)
            seen += 1
            if message.HasField("header"):
                header, data = message.header, bytearray()
                if header.upload_id:
                    upload = await self._find(header.upload_id, context)
                assert upload is not None, "the first header of a stream names the upload"
                if header.size > self.max_chunk_bytes:
                    await refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "CHUNK_TOO_LARGE")
                self.order.append(header.number)
                if header.number in upload.acknowledged:
                    self.resent.append(header.number)
                for needed in self._reasons_to_wait(upload, header.number, fault):
                    yield upload_pb2.UploadStreamResponse(
                        throttled=upload_pb2.Throttled(
                            number=header.number, reason="BUDGET_FULL", needed_number=needed
                        )
                    )
                    await self._until_unblocked(upload)
            assert len(message.data) <= BLOCK_BYTES, "no block is larger than GetLimits says"
            data += message.data
            if len(data) < header.size:
                continue
            assert upload is not None
            await self._keep(upload, header, bytes(data), context)
            if fault is not None and fault.kind is Break.LOSE_ACK and seen > fault.at:
                await break_stream(Break.UNAVAILABLE, context)
            if fault is None:
                # The last answers of a broken stream may never reach the client.
                upload.acknowledged.add(header.number)
            yield upload_pb2.UploadStreamResponse(
                accepted=upload_pb2.Accepted(
                    number=header.number, size=len(data), crc32c=header.crc32c
                )
            )

    def _reasons_to_wait(
        self, upload: FakeUpload, number: int, fault: StreamFault | None
    ) -> list[int]:
        if self.hold_from is not None and number >= self.hold_from:
            return [self.hold_from]
        waits = self.wait_for_chunk
        if waits is not None and number > waits and waits not in upload.chunks:
            return [waits]
        return [number] if fault is not None and fault.throttle else []

    async def _until_unblocked(self, upload: FakeUpload) -> None:
        if self.hold_from is not None:
            # In most tests the client disconnects meanwhile.
            async with self._changed:
                await self._changed.wait_for(lambda: self.hold_from is None)
            return
        waits = self.wait_for_chunk
        if waits is None:
            await asyncio.sleep(0.001)
            return
        async with self._changed:
            await self._changed.wait_for(lambda: waits in upload.chunks)

    async def _keep(
        self, upload: FakeUpload, header: upload_pb2.ChunkHeader, data: bytes, context: Context
    ) -> None:
        if crc32c(data) != header.crc32c:
            await refuse(context, grpc.StatusCode.DATA_LOSS, "CHECKSUM_MISMATCH")
        known = upload.chunks.get(header.number)
        if known is not None and known != data:
            await refuse(context, grpc.StatusCode.ALREADY_EXISTS, "CHUNK_CONFLICT")
        async with self._changed:
            upload.chunks[header.number] = data
            self._changed.notify_all()
        upload.state = upload_pb2.UPLOAD_STATE_UPLOADING
        upload.sequence += 1
        if header.is_last:
            upload.total = header.number + 1
        self._accepted += 1
        if self._accepted == self.lose_everything_after:
            self.lost |= self.uploads.keys()
            self.uploads.clear()
            await refuse(context, grpc.StatusCode.NOT_FOUND, "UPLOAD_LOST")

    # -- helpers

    async def _enter(self, method: str, context: Context) -> CallFault | None:
        """Count the call and fail it if its script says so; return a fault to apply at its end."""
        self.calls[method] += 1
        metadata = dict(context.invocation_metadata() or ())
        self.tokens.append(str(metadata.get("authorization", "")))
        faults = self.call_faults[method]
        fault = faults.pop(0) if faults else None
        if fault is not None and not fault.done:
            await self._leave(fault, context)
        return fault

    async def _leave(self, fault: CallFault | None, context: Context) -> None:
        if fault is not None:
            await refuse(
                context, fault.code, fault.reason, retry_after_seconds=fault.retry_after_seconds
            )

    async def _find(self, upload_id: str, context: Context) -> FakeUpload:
        upload = self.uploads.get(upload_id)
        if upload is None:
            reason = "UPLOAD_LOST" if upload_id in self.lost else "UPLOAD_NOT_FOUND"
            await refuse(context, grpc.StatusCode.NOT_FOUND, reason)
        return upload


@asynccontextmanager
async def serving(intake: FakeIntake) -> AsyncIterator[str]:
    """Serve the fake and yield its address."""
    server = grpc.aio.server()
    upload_pb2_grpc.add_IntakeServiceServicer_to_server(intake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace=0)
