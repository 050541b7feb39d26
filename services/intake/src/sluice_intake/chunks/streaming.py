"""UploadStream: many chunks of one upload in blocks, each acknowledged once it is accepted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

import structlog

from sluice_common.rates.limiter import RATE_LIMITED, RateLimiter
from sluice_common.rpc.chunk_errors import block_before_header, chunk_incomplete, chunk_open
from sluice_common.rpc.frames import Frame, Header
from sluice_core.access.actions import Action
from sluice_core.access.principal import Principal
from sluice_core.errors import InvalidArgument, SluiceError, Unavailable
from sluice_core.ports import Acceptance, Admission, ChunkOffer, UploadLedger
from sluice_core.rates.model import RateKind
from sluice_intake.chunks.acceptance import ChunkAcceptor
from sluice_intake.chunks.ack_times import AckTimes
from sluice_intake.chunks.admission import ChunkAdmission
from sluice_intake.chunks.reception import ChunkReceiver, IncomingChunk, make_offer
from sluice_intake.chunks.stalls import StallClock, chunk_stalled
from sluice_intake.chunks.stored_watermark import FOLLOW_DELAY_SECONDS, StoredNotifier
from sluice_intake.lookup import Recheck, UploadGuard, reporting_lost_uploads
from sluice_intake.metrics import IntakeMetrics
from sluice_intake.options import IntakeOptions

_log = structlog.get_logger(__name__)

_NOTICEABLE_SECONDS = 1.0
"""Shorter delays by a rate limit are notified once per chunk."""

Read = Callable[[], Awaitable[Frame | None]]
"""Return the next frame; None once the client has half-closed."""


class ResponseWriter(Protocol):
    """The responses of a stream. Tasks may call it concurrently."""

    async def accepted(self, acceptance: Acceptance) -> None: ...

    async def stored(self, watermark: int, part_number: int) -> None: ...

    async def throttled(self, number: int, admission: Admission) -> None: ...


@dataclass(frozen=True, slots=True)
class StreamHandler:
    """The handler of all streams; each stream gets its own `_Stream`."""

    ledger: UploadLedger
    guard: UploadGuard
    receiver: ChunkReceiver
    acceptor: ChunkAcceptor
    admission: ChunkAdmission
    metrics: IntakeMetrics
    options: IntakeOptions
    limiter: RateLimiter | None = None

    async def serve(self, principal: Principal, read: Read, responses: ResponseWriter) -> None:
        """Serve one stream until the client has half-closed and every chunk is acknowledged.

        It never waits for `Stored`. An error of one chunk ends the stream with that error, after
        the acknowledgements of all chunks accepted before. Acknowledged chunks stay acknowledged.
        """
        await _Stream(self, principal, read, responses).run()


class _Stream:
    """One UploadStream in progress.

    It consists of a reader that receives one chunk after the other (the hot path is
    `_receive_chunk`), up to `max_accepts_in_flight` accepts that run while the reader continues,
    a notifier of stored chunks and a stall watch.
    """

    def __init__(
        self, handler: StreamHandler, principal: Principal, read: Read, responses: ResponseWriter
    ) -> None:
        self._handler = handler
        self._principal = principal
        self._read = read
        self._responses = responses
        self._upload_id = ""
        self._tenant = principal.tenant
        self._ack_times = AckTimes(handler.metrics)
        self._notifier = StoredNotifier(handler.ledger, self._ack_times.measured(responses.stored))
        self._recheck: Recheck | None = None
        self._failure: SluiceError | None = None
        self._stalls = StallClock(
            handler.options.chunk_stall_seconds,
            handler.options.chunk_stall_bytes,
            handler.options.chunk_fair_bytes,
        )
        self._slots = asyncio.Semaphore(handler.options.max_accepts_in_flight)
        self._unaccepted: set[AsyncExitStack] = set()
        self._background = asyncio.TaskGroup()
        self._work = asyncio.TaskGroup()
        self._reader: asyncio.Task[None] | None = None
        self._open_chunk: IncomingChunk | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._renew_seconds = min(
            handler.options.room_seconds, handler.options.ledger.reservation_seconds / 4
        )
        self._throttled_number = self._rate_limited_number = -1
        limiter = handler.limiter
        is_limited = limiter is not None and limiter.limit(RateKind.BYTES) > 0
        self._pace = self._pace_bytes if is_limited else None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._follow_timer: asyncio.TimerHandle | None = None
        self._follow_task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        # Timers instead of sleeping tasks: most streams end before either is due.
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
                        self._follow_task,
                        self._renewal,
                    ):
                        if watch is not None:
                            watch.cancel()
        finally:
            # An accept that was cancelled before its first step did not close its chunk.
            for opened in tuple(self._unaccepted):
                await opened.aclose()
            # Break the task–frame cycle: a cancelled reader keeps its frames and their block,
            # and reference counting now frees them without waiting for the garbage collector.
            self._reader = None
        if self._failure is not None:
            with reporting_lost_uploads(self._handler.ledger, self._upload_id):
                raise self._failure

    def _fail(self, error: SluiceError) -> None:
        """End the stream with its first error: stop the reader, let running accepts finish."""
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
        guard, call = self._handler.guard, (self._principal, Action.UPLOAD_STREAM, header.upload_id)
        await guard.check(*call)
        self._recheck = guard.recheck(*call)
        self._upload_id = header.upload_id
        loop = asyncio.get_running_loop()
        self._follow_timer = loop.call_later(FOLLOW_DELAY_SECONDS, self._follow)

    async def _receive_chunk(self, header: Header, data: memoryview) -> None:
        """Read one whole chunk and start a task that accepts it."""
        if header.upload_id not in ("", self._upload_id):
            raise InvalidArgument(
                "SECOND_UPLOAD",
                "A stream carries the chunks of one upload; open another stream for another one.",
                field="upload_id",
            )
        if self._recheck is not None:
            await self._recheck.run_if_due()
        offer = make_offer(self._upload_id, header, self._handler.options.ledger.max_chunk_bytes)
        reception = self._handler.receiver.open(offer, header.crc32c, self._request_room, len(data))
        chunk = await reception.__aenter__()
        try:
            self._open_chunk = chunk
            # The hot path of every block: no logging, no new tasks, no copies.
            read, append, stalls, pace = self._read, chunk.append, self._stalls, self._pace
            if data:
                if pace is not None:
                    await pace(len(data))
                await append(data)
            while chunk.missing_bytes:
                stalls.start_waiting()
                frame = await read()
                if frame is None:
                    raise chunk_incomplete(chunk.offer.number, chunk.missing_bytes)
                next_header, data, error = frame
                if error is not None:
                    raise error
                if next_header is not None:
                    raise chunk_open(chunk.offer.number, chunk.missing_bytes)
                stalls.received(len(data))
                if pace is not None:
                    await pace(len(data))
                await append(data)
            stalls.reset()
            last_byte_at = time.perf_counter()
            await self._slots.acquire()
            self._open_chunk = None
            if self._renewal is not None:
                await self._stop_renewal()
            if chunk.seconds_since_room_request() > self._renew_seconds:
                # The wait for a slot was long: bytes must not outlive their reservation (rule 9).
                await chunk.renew(shrink=False)
        except BaseException as failure:
            await self._stop_renewal()
            # No AsyncExitStack: if its exit is cancelled too, the stack of Python 3.11 and its
            # traceback form a cycle that keeps a block until the garbage collector runs.
            await reception.__aexit__(type(failure), failure, failure.__traceback__)
            raise
        opened = AsyncExitStack()
        opened.push_async_exit(reception)
        self._start_accept(chunk, opened, last_byte_at)

    async def _request_room(self, offer: ChunkOffer, more_bytes: int) -> Admission:
        async def throttled(admission: Admission) -> None:
            if self._throttled_number != offer.number:
                self._throttled_number = offer.number
                await self._responses.throttled(offer.number, admission)

        return await self._handler.admission.admit_streamed(
            self._tenant, offer, more_bytes, throttled
        )

    async def _pace_bytes(self, size: int) -> None:
        """Wait until the rate limits allow a block that has arrived.

        The stream's reader waits, so flow control slows the client down. This is no waiting for the
        client: `StallClock` does not see it.
        """
        assert self._handler.limiter is not None
        await self._handler.limiter.pace_bytes(self._principal, size, self._notify_rate_limited)

    async def _notify_rate_limited(self, seconds_left: float) -> None:
        chunk = self._open_chunk
        number = 0 if chunk is None else chunk.offer.number
        if number == self._rate_limited_number and seconds_left < _NOTICEABLE_SECONDS:
            return
        self._rate_limited_number = number
        limited = Admission(granted=False, reason=RATE_LIMITED, needed_number=number)
        await self._responses.throttled(number, limited)

    # -- the accepts

    def _start_accept(
        self, chunk: IncomingChunk, opened: AsyncExitStack, last_byte_at: float
    ) -> None:
        self._unaccepted.add(opened)
        self._work.create_task(self._accept(chunk, opened, last_byte_at))

    async def _accept(
        self, chunk: IncomingChunk, opened: AsyncExitStack, last_byte_at: float
    ) -> None:
        number = chunk.offer.number
        self._notifier.accept_started(number)
        try:
            async with opened:
                acceptance = await self._handler.acceptor.accept(chunk)
            await self._responses.accepted(acceptance)
            self._ack_times.accepted(number, last_byte_at)
            await self._notifier.acknowledged(number, acceptance.snapshot)
            # After the acknowledgement: this may wait for a full queue.
            await self._handler.acceptor.enqueue_hints(self._upload_id, self._tenant, acceptance)
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
            and self._renewal is None
            and chunk.seconds_since_room_request() >= self._renew_seconds
        ):
            self._renewal = self._background.create_task(self._renew(chunk))
        interval = min(self._handler.options.chunk_stall_seconds / 4, self._renew_seconds)
        loop = asyncio.get_running_loop()
        self._stall_timer = loop.call_later(min(left, interval), self._watch_stalls)

    async def _renew(self, chunk: IncomingChunk) -> None:
        """Renew the room of a chunk; fail the stream if it is slow while others wait."""
        try:
            others_wait = await chunk.renew(shrink=True)
            if others_wait and self._stalls.is_slow():
                self._fail(chunk_stalled(self._upload_id))
        except Unavailable as error:
            # Retried by the next renewal: the reservation outlives several of them.
            _log.warning("room.renewal_failed", upload_id=self._upload_id, reason=error.reason)
        except SluiceError as error:
            self._fail(error)
        finally:
            self._renewal = None

    async def _stop_renewal(self) -> None:
        """Cancel the renewal and wait for it, so that it cannot reserve room afterwards."""
        self._open_chunk = None
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait((self._renewal,))

    def _follow(self) -> None:
        self._follow_task = self._background.create_task(self._notifier.follow(self._upload_id))
