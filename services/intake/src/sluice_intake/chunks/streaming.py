"""UploadStream: many chunks of one upload as blocks, each acknowledged as soon as it is safe.

One stream is: a reader that fills one chunk after the other; up to `max_accepts_in_flight`
accepts, which run while the reader goes on with the next chunk; a notifier that tells which
chunks are stored; a watch over clients that stall. The way of a block is `_receive_chunk`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

import structlog

from sluice_common.rpc.frames import Frame, Header, block_before_header
from sluice_common.telemetry.metrics import Metrics
from sluice_core.access.principal import Principal
from sluice_core.errors import InvalidArgument, SluiceError, Unavailable
from sluice_core.ports import Acceptance, Admission, ChunkOffer, UploadLedger
from sluice_intake.chunks.acceptance import ChunkAcceptor
from sluice_intake.chunks.admission import ChunkAdmission
from sluice_intake.chunks.reception import ChunkReceiver, IncomingChunk, make_offer
from sluice_intake.chunks.stalls import StallClock, chunk_stalled
from sluice_intake.chunks.stored_watermark import FIRST_LOOK_SECONDS, StoredNotices
from sluice_intake.lookup import check_upload, telling_lost
from sluice_intake.options import IntakeOptions

_log = structlog.get_logger(__name__)

Read = Callable[[], Awaitable[Frame | None]]
"""The next frame; None once the client has half-closed."""


class Answers(Protocol):
    """What a stream tells its client. Any number of tasks may call at once."""

    async def accepted(self, acceptance: Acceptance) -> None: ...

    async def stored(self, watermark: int, part_number: int) -> None: ...

    async def throttled(self, number: int, admission: Admission) -> None: ...


@dataclass(frozen=True, slots=True)
class StreamHandler:
    """Serves streams; one object for all of them."""

    ledger: UploadLedger
    receiving: ChunkReceiver
    accepting: ChunkAcceptor
    admissions: ChunkAdmission
    metrics: Metrics
    options: IntakeOptions

    async def serve(self, principal: Principal, read: Read, answers: Answers) -> None:
        """Return when the client has half-closed and every chunk is answered; never wait for
        `Stored`.

        An error that concerns one chunk ends the stream with that error, after every
        acknowledgement that was earned before. Acknowledged chunks stay acknowledged.
        """
        await _Stream(self, principal, read, answers).run()


class _Stream:
    """One UploadStream in progress."""

    def __init__(
        self, serves: StreamHandler, principal: Principal, read: Read, answers: Answers
    ) -> None:
        self._serves = serves
        self._principal = principal
        self._read = read
        self._answers = answers
        self._upload_id = ""
        self._tenant = principal.tenant
        self._notices = StoredNotices(serves.ledger, answers.stored, serves.metrics)
        self._failure: SluiceError | None = None
        self._stalls = StallClock(
            serves.options.chunk_stall_seconds,
            serves.options.chunk_stall_bytes,
            serves.options.chunk_fair_bytes,
        )
        self._slots = asyncio.Semaphore(serves.options.max_accepts_in_flight)
        self._unaccepted: set[AsyncExitStack] = set()
        self._ack_seconds = serves.metrics.ack_seconds.labels("accepted")
        self._background = asyncio.TaskGroup()
        self._work = asyncio.TaskGroup()
        self._reader: asyncio.Task[None] | None = None
        self._open_chunk: IncomingChunk | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._renew_seconds = min(
            serves.options.room_seconds, serves.options.ledger.reservation_seconds / 4
        )
        self._throttled_number = -1
        self._stall_timer: asyncio.TimerHandle | None = None
        self._follow_timer: asyncio.TimerHandle | None = None
        self._following: asyncio.Task[None] | None = None

    async def run(self) -> None:
        # Timers instead of tasks that sleep: most streams end before either is due.
        self._watch_stalls()
        try:
            async with self._background:
                try:
                    async with self._work:
                        self._reader = self._work.create_task(self._read_chunks())
                finally:
                    for watch in (
                        self._stall_timer,
                        self._follow_timer,
                        self._following,
                        self._renewing,
                    ):
                        if watch is not None:
                            watch.cancel()
        finally:
            # Accepts that were cancelled before their first step did not close their chunk.
            for opened in tuple(self._unaccepted):
                await opened.aclose()
            # Cancelled, it keeps the frames that it was in, with a block, and they know this
            # stream: without a cycle they go now, and not when the garbage collector comes.
            self._reader = None
        if self._failure is not None:
            with telling_lost(self._serves.ledger, self._upload_id):
                raise self._failure

    def _fail(self, error: SluiceError) -> None:
        """End the stream with its first error: read no further, let running accepts end."""
        if self._failure is None:
            self._failure = error
        if self._reader is not None:
            self._reader.cancel()

    # -- the reader

    async def _read_chunks(self) -> None:
        try:
            while (frame := await self._read()) is not None:
                header, data, error = frame
                if error is not None:
                    raise error
                if header is None:
                    if data:
                        raise block_before_header()
                    continue
                if not self._upload_id:
                    await self._open_upload(header)
                await self._receive_chunk(header, data)
        except SluiceError as error:
            if self._failure is None:
                self._failure = error

    async def _open_upload(self, header: Header) -> None:
        await check_upload(self._serves.ledger, self._principal, header.upload_id)
        self._upload_id = header.upload_id
        loop = asyncio.get_running_loop()
        self._follow_timer = loop.call_later(FIRST_LOOK_SECONDS, self._follow)

    async def _receive_chunk(self, header: Header, data: memoryview) -> None:
        """Read one chunk to its last byte and leave its acceptance to a task."""
        if header.upload_id not in ("", self._upload_id):
            raise InvalidArgument(
                "SECOND_UPLOAD",
                "A stream carries the chunks of one upload; open another stream for another one.",
                field="upload_id",
            )
        offer = make_offer(self._upload_id, header, self._serves.options.ledger.max_chunk_bytes)
        receiving = self._serves.receiving.open(offer, header.crc32c, self._ask, len(data))
        chunk = await receiving.__aenter__()
        try:
            self._open_chunk = chunk
            if data:
                await chunk.append(data)
            # The loop of every block: nothing here may log, make a task or copy.
            read, append, stalls = self._read, chunk.append, self._stalls
            while chunk.missing_bytes:
                stalls.waiting()
                frame = await read()
                if frame is None:
                    raise _chunk_cut_short(chunk)
                next_header, data, error = frame
                if error is not None:
                    raise error
                if next_header is not None:
                    raise _chunk_open(chunk)
                stalls.received(len(data))
                await append(data)
            stalls.rest()
            last_byte_at = time.perf_counter()
            await self._slots.acquire()
            self._open_chunk = None
            if self._renewing is not None:
                await self._end_renewing()
            if chunk.seconds_since_asked() > self._renew_seconds:
                # Held up for long: without a reservation the bytes would count nowhere (rule 9).
                await chunk.renew(shrink=False)
        except BaseException as failure:
            await self._end_renewing()
            # Not by an AsyncExitStack: when leaving is cancelled as well, the stack of Python 3.11
            # and its own traceback know each other, and a block stays until they are collected.
            await receiving.__aexit__(type(failure), failure, failure.__traceback__)
            raise
        opened = AsyncExitStack()
        opened.push_async_exit(receiving)
        self._leave_to_accept(chunk, opened, last_byte_at)

    async def _ask(self, offer: ChunkOffer) -> Admission:
        async def throttled(admission: Admission) -> None:
            if self._throttled_number != offer.number:
                self._throttled_number = offer.number
                await self._answers.throttled(offer.number, admission)

        return await self._serves.admissions.admit_streamed(offer, throttled)

    # -- the accepts

    def _leave_to_accept(
        self, chunk: IncomingChunk, opened: AsyncExitStack, last_byte_at: float
    ) -> None:
        self._unaccepted.add(opened)
        self._work.create_task(self._accept(chunk, opened, last_byte_at))

    async def _accept(
        self, chunk: IncomingChunk, opened: AsyncExitStack, last_byte_at: float
    ) -> None:
        number = chunk.offer.number
        self._notices.accepting(number)
        try:
            async with opened:
                acceptance = await self._serves.accepting.accept(chunk)
            await self._answers.accepted(acceptance)
            self._ack_seconds.observe(time.perf_counter() - last_byte_at)
            await self._notices.answered(number, last_byte_at, acceptance.snapshot)
            # After the acknowledgement: hints may wait for a full queue.
            await self._serves.accepting.announce(self._upload_id, self._tenant, acceptance)
        except SluiceError as error:
            self._fail(error)
        finally:
            self._unaccepted.discard(opened)
            self._slots.release()

    # -- the watches

    def _watch_stalls(self) -> None:
        left = self._stalls.seconds_left()
        if left <= 0:
            self._fail(chunk_stalled(self._upload_id))
            return
        chunk = self._open_chunk
        if (
            chunk is not None
            and self._renewing is None
            and chunk.seconds_since_asked() >= self._renew_seconds
        ):
            self._renewing = self._background.create_task(self._renew(chunk))
        often = min(self._serves.options.chunk_stall_seconds / 4, self._renew_seconds)
        loop = asyncio.get_running_loop()
        self._stall_timer = loop.call_later(min(left, often), self._watch_stalls)

    async def _renew(self, chunk: IncomingChunk) -> None:
        """Keep the room of a chunk that takes long, unless others need it more."""
        try:
            pressed = await chunk.renew(shrink=True)
            if pressed and self._stalls.is_slow():
                self._fail(chunk_stalled(self._upload_id))
        except Unavailable as error:
            # The reservation outlives several of these; the next one tries again.
            _log.warning("room.renewal_failed", upload_id=self._upload_id, reason=error.reason)
        except SluiceError as error:
            self._fail(error)
        finally:
            self._renewing = None

    async def _end_renewing(self) -> None:
        """Nothing asks for the room of the chunk any more, so that nothing holds it afterwards."""
        self._open_chunk = None
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait((self._renewing,))

    def _follow(self) -> None:
        self._following = self._background.create_task(self._notices.follow(self._upload_id))


def _chunk_open(chunk: IncomingChunk) -> InvalidArgument:
    return InvalidArgument(
        "CHUNK_OPEN",
        f"Chunk {chunk.offer.number} lacks {chunk.missing_bytes} bytes; send them before the next "
        "header.",
        field="header",
        metadata={"number": str(chunk.offer.number)},
    )


def _chunk_cut_short(chunk: IncomingChunk) -> InvalidArgument:
    return InvalidArgument(
        "CHUNK_INCOMPLETE",
        f"The stream ended {chunk.missing_bytes} bytes before the end of chunk "
        f"{chunk.offer.number}; send the whole chunk again.",
        field="data",
        metadata={"number": str(chunk.offer.number)},
    )
