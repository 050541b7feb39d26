"""One upload from its source to a visible node, across crashes and restarts of either side."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from sluice_client.checksums import combined_crc32c, crc32c
from sluice_client.errors import (
    AlreadyExists,
    InvalidArgument,
    SluiceError,
    SourceChanged,
    SourceNotRepeatable,
    UploadGone,
)
from sluice_client.model import FileIdentity, Limits, UploadResult, UploadState, UploadStatus
from sluice_client.options import ClientOptions
from sluice_client.progress import Meter, Phase, ProgressCallback
from sluice_client.retry import Patience, retrying
from sluice_client.tasks import Ended, clean_up_within, in_thread, single_failure
from sluice_client.uploads.board import Board
from sluice_client.uploads.completion import Completer
from sluice_client.uploads.intake_api import InitiateRequest, IntakeApi, Opened
from sluice_client.uploads.journal import Entry
from sluice_client.uploads.plan import (
    chunk_count,
    chunk_size_for,
    chunk_sizes,
    is_usable_chunk_size,
    lanes_for,
)
from sluice_client.uploads.refusals import Restart, failure_of, is_misfit, is_mismatch
from sluice_client.uploads.requests import ExtraStreams, UploadRequest
from sluice_client.uploads.resume_record import ResumeRecord
from sluice_client.uploads.sender import Sender
from sluice_client.uploads.sources import (
    AnySource,
    BytesSource,
    FileSource,
    OneWaySource,
    sha256_of,
    whole_if_small,
)

_ONE_WAY_LANES = 2
_ONE_WAY_WINDOW_CHUNKS = 2
"""Chunks of a one-way source stay in memory until they are accepted: fewer at once."""
_ABORT_SECONDS = 2.0
_MAX_ROUNDS = 20
"""How often a server may ask again for chunks that it had acknowledged."""
_NO_FILE = FileIdentity(0, 0, 0, 0, 0)


class Upload:
    """One call of `Client.upload`."""

    def __init__(
        self,
        *,
        intake: IntakeApi,
        limits: Limits,
        refresh_limits: Callable[[], Awaitable[Limits]],
        request: UploadRequest,
        options: ClientOptions,
        extra: ExtraStreams,
        on_progress: ProgressCallback | None,
    ) -> None:
        self._intake = intake
        self._limits = limits
        self._refresh_limits = refresh_limits
        self._request = request
        self._options = options
        self._extra = extra
        self._on_progress = on_progress
        self._patience = Patience(options.retry, reached=lambda: intake.connection.reached)
        self._meter = Meter(on_progress, None)
        self._patience.on_wait = self._meter.wait_for_retry
        self.notify = self._meter.notify
        self._completer = Completer(
            intake, self._patience, self._meter, options.completion_wait_seconds
        )
        self._started = time.monotonic()
        self._restarts = 0
        self._sha256 = request.sha256 if isinstance(request.sha256, bytes) else None

    async def run(self, source: AnySource, record: ResumeRecord) -> UploadResult:
        """Upload the source; with a journal, resume where an earlier run stopped."""
        self._meter.total_bytes = source.size
        identity = source.identity if isinstance(source, FileSource) else None
        while True:
            try:
                whole = await whole_if_small(source, self._limits.max_inline_bytes)
                if whole is None:
                    result = await self._in_chunks(source, record)
                else:
                    self._meter.total_bytes = len(whole)
                    if isinstance(source, OneWaySource):
                        source = BytesSource(whole)
                    result = await self._inline(whole)
                return replace(result, source_identity=identity)
            except UploadGone as error:
                restart = Restart("the server does not know the upload any more", error)
            except Restart as decision:
                restart = decision
            await self._restart(restart, source, record)

    # -- small objects

    async def _inline(self, data: bytes) -> UploadResult:
        crc = crc32c(data)
        if self._request.sha256 is True:
            self._sha256 = hashlib.sha256(data).digest()
        try:
            opened = await self._initiate(uuid.uuid4().hex, len(data), None, crc, data)
        except SluiceError as error:
            if error.upload_status is not None:
                self._require_completed(error.upload_status, resumed=False)
            if error.reason == "INLINE_TOO_LARGE" and await self._limits_changed():
                raise Restart("the server's limits changed", error) from error
            raise
        self._meter.sent(len(data))
        self._meter.accepted(len(data))
        if opened.state is UploadState.COMPLETED:
            return self._result(opened.upload_id, opened.node_id, len(data), crc, None)
        status = await self._completer.complete(
            opened.upload_id, total_chunks=None, crc32c=crc, sha256=self._sha256
        )
        if status.state is UploadState.UPLOADING:
            cause = failure_of(status)
            raise Restart("the server lost the bytes it had acknowledged", cause, opened.upload_id)
        self._require_completed(status, resumed=False)
        return self._result(opened.upload_id, status.node_id, len(data), crc, status.sha256)

    # -- everything else

    async def _in_chunks(self, source: AnySource, record: ResumeRecord) -> UploadResult:
        entry, loaded = await self._entry(source, record)
        resumed = bool(entry.upload_id)
        try:
            if not resumed:
                entry = await self._open(entry, source, record)
            return await self._send_and_complete(entry, source, record, resumed=resumed)
        except SluiceError as error:
            why = await self._restart_reason(error, loaded=loaded)
            if why:
                raise Restart(why, error, entry.upload_id) from error
            if not record.kept or isinstance(error, SourceChanged):
                await self._abandon(entry.upload_id, record)
            raise
        except BaseException:
            if not record.kept:
                # No run can resume it: do not hold the server's budget for a day.
                await self._abandon(entry.upload_id, record)
            raise

    async def _entry(self, source: AnySource, record: ResumeRecord) -> tuple[Entry, bool]:
        """Return the entry of an earlier run of this upload and True, else a new one and False."""
        chunk_size = chunk_size_for(source.size, self._limits, self._request.chunk_size)
        if not record.enabled or not isinstance(source, FileSource):
            return Entry.new(_NO_FILE, chunk_size, ""), False
        arguments = self._request.digest()
        entry = await record.load()
        if entry is not None:
            if (entry.identity, entry.arguments) != (source.identity, arguments):
                why = "the file or its options changed since the upload was interrupted"
            elif not is_usable_chunk_size(entry.chunk_size, source.size, self._limits):
                why = "the server's limits changed since the upload was interrupted"
            else:
                return entry, True
            self._meter.enter(Phase.STARTING, f"{why}; the upload restarts")
            self._restarts += 1
            await self._abandon(entry.upload_id, record)
        entry = Entry.new(source.identity, chunk_size, arguments)
        # On disk before the call: after a crash in between, the request id finds the same upload.
        await record.save(entry)
        return entry, False

    async def _open(self, entry: Entry, source: AnySource, record: ResumeRecord) -> Entry:
        try:
            opened = await self._initiate(entry.request_id, source.size, entry.chunk_size, None)
        except AlreadyExists as error:
            await record.remove()
            if error.reason == "REQUEST_ID_CONFLICT":
                raise Restart("the earlier attempt had other arguments", error) from error
            raise
        except InvalidArgument:
            # The same call can never succeed: there is nothing to resume.
            await record.remove()
            raise
        entry = entry.named(opened.upload_id)
        await record.save(entry)
        return entry

    async def _restart_reason(self, error: SluiceError, *, loaded: bool) -> str:
        """Return why a new upload may succeed where this one failed; empty when it would not."""
        if loaded and is_mismatch(error):
            return "the content of the file changed since the upload began"
        if not is_misfit(error):
            return ""
        # A restart may have changed the limits, between two runs or during this one.
        if await self._limits_changed() or loaded:
            return "the server refuses the plan of the upload"
        return ""

    async def _limits_changed(self) -> bool:
        before = self._limits
        self._limits = await self._refresh_limits()
        return self._limits != before

    async def _initiate(
        self,
        request_id: str,
        size: int | None,
        chunk_size: int | None,
        crc: int | None,
        inline: bytes | None = None,
    ) -> Opened:
        arguments = InitiateRequest(
            drive=self._request.drive,
            path=self._request.path,
            request_id=request_id,
            content_type=self._request.content_type,
            expected_size=size,
            chunk_size=chunk_size,
            sha256=self._sha256 if inline is not None else None,
            crc32c=crc,
            metadata=self._request.metadata,
            if_absent=self._request.if_absent,
            inline_data=inline,
        )
        return await retrying(lambda: self._intake.initiate(arguments), self._patience)

    async def _send_and_complete(
        self, entry: Entry, source: AnySource, record: ResumeRecord, *, resumed: bool
    ) -> UploadResult:
        one_way = isinstance(source, OneWaySource)
        size = source.size
        board = Board(None if size is None else chunk_count(size, entry.chunk_size))
        sender = Sender(
            intake=self._intake,
            upload_id=entry.upload_id,
            source=source,
            chunk_size=entry.chunk_size,
            block_bytes=self._limits.max_block_bytes,
            board=board,
            patience=self._patience,
            meter=self._meter,
            window_chunks=(_ONE_WAY_WINDOW_CHUNKS if one_way else self._options.window_chunks),
            stall_seconds=self._options.stall_seconds,
        )
        status = await self._until_terminal(entry, source, board, sender, resumed=resumed)
        self._require_completed(status, resumed=resumed)
        await record.remove()
        size = status.received_bytes if source.size is None else source.size
        # An earlier run may have sent everything: count as skipped what this run did not send.
        self._meter.skipped(size - self._meter.accepted_bytes)
        crc = status.crc32c
        if crc is None:
            crc = await self._object_crc(entry, source, board)
        return self._result(entry.upload_id, status.node_id, size, crc, status.sha256)

    async def _until_terminal(
        self, entry: Entry, source: AnySource, board: Board, sender: Sender, *, resumed: bool
    ) -> UploadStatus:
        """Send and complete, repeated while the server finds chunks missing (rule 8)."""
        is_stale = resumed
        for _ in range(_MAX_ROUNDS):
            try:
                if is_stale:
                    await sender.refresh()
                await self._send(entry, source, board, sender)
                await source.check_unchanged()
                status = await self._completer.complete(
                    entry.upload_id,
                    total_chunks=board.total,
                    crc32c=await self._object_crc(entry, source, board),
                    sha256=self._sha256,
                )
            except Ended as ended:
                status = await self._completer.wait(ended.status)
            if status.state.terminal:
                return status
            is_stale = True
            self._meter.enter(Phase.SENDING, "the server asks for chunks again")
        raise failure_of(status)

    async def _send(self, entry: Entry, source: AnySource, board: Board, sender: Sender) -> None:
        """Send what is missing; meanwhile read what an earlier run sent, for the checksums."""
        streams = self._request.streams or (
            _ONE_WAY_LANES
            if isinstance(source, OneWaySource)
            else lanes_for(source.size - self._meter.accepted_bytes, self._options.max_streams)
        )
        skipped = list(board.without_crc())
        digest = self._request.sha256 is True and self._sha256 is None
        extra = self._extra.take(streams - 1)
        try:
            if not skipped and not digest:
                await sender.send(1 + extra)
            else:
                with single_failure():
                    async with asyncio.TaskGroup() as group:
                        group.create_task(sender.send(1 + extra))
                        if digest:
                            group.create_task(self._claim_sha256(entry, source))
                        group.create_task(self._account(skipped, entry, source, board))
        finally:
            self._extra.give_back(extra)
        if isinstance(source, OneWaySource) and self._request.sha256 is True:
            self._sha256 = source.sha256.digest()

    async def _claim_sha256(self, entry: Entry, source: AnySource) -> None:
        if not isinstance(source, OneWaySource):
            self._sha256 = await sha256_of(source, entry.chunk_size)

    async def _account(
        self, numbers: Iterable[int], entry: Entry, source: AnySource, board: Board
    ) -> None:
        """Checksum another run's chunks from the file as it is now.

        If it is another file after all, the object's CRC32C differs and no node becomes visible.
        """
        for number in numbers:
            chunk = await source.read(number, entry.chunk_size)
            if chunk is not None:
                board.note_crc(number, chunk.crc32c)
                source.sent(chunk)

    async def _object_crc(self, entry: Entry, source: AnySource, board: Board) -> int:
        """Return the CRC32C of the whole, from those of its chunks."""
        crcs = board.known_crcs()
        if crcs is None:
            # Chunks known to be accepted only from a status.
            await self._account(board.numbers_without_crc(), entry, source, board)
            crcs = board.known_crcs()
        assert crcs is not None
        if len(crcs) == 1:
            return crcs[0]
        assert source.size is not None
        sizes = chunk_sizes(source.size, entry.chunk_size)
        return await in_thread(combined_crc32c, zip(crcs, sizes, strict=True))

    # -- ends

    def _require_completed(self, status: UploadStatus, *, resumed: bool) -> None:
        match status.state:
            case UploadState.COMPLETED:
                return
            case UploadState.EXPIRED:
                raise Restart("the upload had expired", failure_of(status))
            case UploadState.ABORTED | UploadState.FAILED if resumed:
                raise Restart(f"the earlier attempt was {status.state.lower()}", failure_of(status))
            case _:
                raise failure_of(status)

    async def _restart(self, restart: Restart, source: AnySource, record: ResumeRecord) -> None:
        """Restart the upload (rule 28), a bounded number of times and without losing bytes."""
        self._restarts += 1
        await self._abandon(restart.upload_id, record)
        if self._restarts > self._options.max_restarts:
            raise restart.cause
        if isinstance(source, OneWaySource):
            raise SourceNotRepeatable(
                "SOURCE_NOT_REPEATABLE",
                f"{restart.why}, and this source can be read only once; upload it again",
            ) from restart.cause
        self._meter.restart(f"{restart.why}; the upload restarts")

    async def _abandon(self, upload_id: str, record: ResumeRecord) -> None:
        """Abort a useless upload, best effort, to free its bytes; else it expires (rule 24)."""
        await record.remove()
        if upload_id:
            await clean_up_within(self._intake.abort(upload_id), _ABORT_SECONDS)

    def _result(
        self, upload_id: str, node_id: str, size: int, crc: int, sha256: bytes | None
    ) -> UploadResult:
        self._meter.stored(size)
        self._meter.enter(Phase.DONE)
        return UploadResult(
            upload_id=upload_id,
            node_id=node_id,
            drive=self._request.drive,
            path=self._request.path,
            size=size,
            crc32c=crc,
            sha256=sha256 or self._sha256,
            sent_bytes=self._meter.sent_bytes,
            skipped_bytes=self._meter.skipped_bytes,
            restarts=self._restarts,
            seconds=time.monotonic() - self._started,
        )
