"""Sending of a board's missing chunks over parallel streams until every chunk is accepted."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from sluice_client.errors import (
    Aborted,
    DataLoss,
    FailedPrecondition,
    SluiceError,
    SourceNotRepeatable,
    Unavailable,
)
from sluice_client.model import UploadState, UploadStatus
from sluice_client.progress import Meter, Phase
from sluice_client.retry import Patience, retrying
from sluice_client.tasks import Ended, single_failure
from sluice_client.uploads.board import Board, gaps, missing_of
from sluice_client.uploads.frames import Frame, chunk_header
from sluice_client.uploads.intake_api import Accepted, ChunkStream, IntakeApi, Stored, Throttled
from sluice_client.uploads.plan import chunk_count
from sluice_client.uploads.sources import Chunk, ChunkSource

_READ_AHEAD_CHUNKS = 2
"""Chunks of a lane in memory: one being written to the connection, the next one being read."""
_DAMAGED_TRIES = 3
"""Resends of bytes damaged in transit before the damage counts as a defect."""
_THROTTLE_CHECK_SECONDS = 5.0
"""Longest silence of a delayed stream before the server is asked what is missing."""
_END_SECONDS = 2.0
"""Longest time that a stream with all chunks acknowledged may take to end."""


@dataclass(slots=True)
class _InFlight:
    size: int = 0
    crc32c: int | None = None
    begun: bool = False
    """Passed to the connection in part: after a failed write, the bytes may still have arrived."""


@dataclass(slots=True)
class _Lane:
    """One stream and the chunks it carries.

    When its stream breaks, a lane asks the server which of the lane's unacknowledged chunks
    arrived, gives the others back to the board and opens the next stream. It does not touch the
    chunks of other lanes. Chunks that a status reports as received are never sent again.
    """

    stream: ChunkStream
    window: asyncio.Semaphore
    ahead: asyncio.Semaphore
    filled: asyncio.Queue[Chunk | None]
    in_flight: dict[int, _InFlight]
    last_event: float
    throttled_by: int | None = None
    """The chunk that the server waits for before it continues this stream."""
    delay_text: str = ""
    all_sent: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Everything this stream will ever carry is acknowledged."""

    def check_settled(self) -> None:
        if self.all_sent and not self.in_flight:
            self.settled.set()


class Sender:
    """Sends the chunks of one upload.

    Args:
        intake: the server.
        upload_id: of the upload, not terminal.
        source: of the bytes.
        chunk_size: bytes of every chunk but the last.
        block_bytes: largest block that the server accepts.
        board: state of each chunk; updated as chunks are accepted.
        patience: shared by all tasks of this upload.
        meter: notified of every step.
        window_chunks: chunks of one stream that may await their acknowledgement.
        stall_seconds: silence after which a stream is abandoned.
    """

    def __init__(
        self,
        *,
        intake: IntakeApi,
        upload_id: str,
        source: ChunkSource,
        chunk_size: int,
        block_bytes: int,
        board: Board,
        patience: Patience,
        meter: Meter,
        window_chunks: int,
        stall_seconds: float,
    ) -> None:
        self._intake = intake
        self._upload_id = upload_id
        self._source = source
        self._chunk_size = chunk_size
        self._block_bytes = block_bytes
        self._board = board
        self._patience = patience
        self._meter = meter
        self._window_chunks = window_chunks
        self._stall_seconds = stall_seconds
        self._damaged = 0
        self._newest: UploadStatus | None = None

    async def send(self, lanes: int) -> None:
        """Return when every chunk is accepted.

        Raise Ended when the upload accepts no more chunks, and the server's errors that neither
        waiting nor resending can fix.
        """
        idle_rounds = 0
        while True:
            accepted = self._board.accepted_count
            if lanes == 1:
                await self._lane()
            else:
                with single_failure():
                    async with asyncio.TaskGroup() as group:
                        for _ in range(lanes):
                            group.create_task(self._lane())
            if self._board.finished:
                return
            # The last status listed only the first gaps (rule 8 may have added new ones meanwhile).
            await self.refresh()
            idle_rounds = 0 if self._board.accepted_count > accepted else idle_rounds + 1
            if idle_rounds:
                await self._patience.pause(_NOTHING_TO_DO, idle_rounds)

    async def refresh(self) -> UploadStatus:
        """Query and record the missing chunks while no stream is open. Raise Ended as in `send`."""
        status = await self._status()
        total = self._board.total
        if total is None:
            return status
        received, lost = self._board.apply(*gaps(status, total))
        for number in received:
            self._meter.skipped(self._size_of(number))
        self._take_back(lost)
        return status

    # -- one lane

    async def _lane(self) -> None:
        attempt = 0
        while (number := self._board.take()) is not None:
            accepted = self._board.accepted_count
            in_flight: dict[int, _InFlight] = {number: _InFlight()}
            try:
                await self._one_stream(number, in_flight)
            except SluiceError as error:
                attempt = 0 if self._board.accepted_count > accepted else attempt + 1
                await self._recover(error, in_flight, attempt)

    async def _one_stream(self, first: int, in_flight: dict[int, _InFlight]) -> None:
        """Open a stream and fill it until nothing is left to send."""
        lane = _Lane(
            stream=await self._intake.open_stream(),
            window=asyncio.Semaphore(self._window_chunks - 1),
            ahead=asyncio.Semaphore(_READ_AHEAD_CHUNKS - 1),
            filled=asyncio.Queue(),
            in_flight=in_flight,
            last_event=asyncio.get_running_loop().time(),
        )
        try:
            with single_failure():
                async with asyncio.TaskGroup() as group:
                    helpers = [
                        group.create_task(self._fill(lane, first)),
                        group.create_task(self._write(lane)),
                    ]
                    reader = group.create_task(self._listen(lane))
                    await self._until_settled(lane)
                    # Let the server end the call; a cancel would look like a failure there.
                    await asyncio.wait([reader], timeout=_END_SECONDS)
                    for task in (*helpers, reader):
                        task.cancel()
        finally:
            lane.stream.cancel()
            while not lane.filled.empty():
                chunk = lane.filled.get_nowait()
                if chunk is not None:
                    self._source.sent(chunk)

    async def _fill(self, lane: _Lane, first: int) -> None:
        """Read chunk after chunk, at most `ahead` of them before they are sent."""
        number: int | None = first
        while number is not None:
            chunk = await self._source.read(number, self._chunk_size)
            if chunk is None:
                # A one-way source ended before this number: there is no such chunk. The reader of
                # its last chunk may not have recorded the end yet.
                del lane.in_flight[number]
                self._board.end_at(chunk_count(self._source.size or 0, self._chunk_size))
                break
            self._board.note_crc(number, chunk.crc32c)
            flight = lane.in_flight[number]
            flight.size, flight.crc32c = chunk.size, chunk.crc32c
            if chunk.is_last and self._board.total is None:
                self._board.end_at(number + 1)
            lane.filled.put_nowait(chunk)
            await lane.ahead.acquire()
            await lane.window.acquire()
            # Ascending only: behind a chunk that the server delays, the chunk that it waits for
            # would wait for ever.
            number = self._board.take(above=max(lane.in_flight, default=-1))
            if number is not None:
                lane.in_flight[number] = _InFlight()
        lane.filled.put_nowait(None)

    async def _write(self, lane: _Lane) -> None:
        upload_id = self._upload_id
        while (chunk := await lane.filled.get()) is not None:
            header = chunk_header(
                upload_id, chunk.number, chunk.size, chunk.crc32c, is_last=chunk.is_last
            )
            upload_id = ""
            lane.in_flight[chunk.number].begun = True
            try:
                if not await self._write_chunk(lane, header, chunk):
                    return
            finally:
                self._source.sent(chunk)
            lane.ahead.release()
        lane.all_sent = True
        await lane.stream.finish()
        lane.check_settled()

    async def _write_chunk(self, lane: _Lane, header: bytes, chunk: Chunk) -> bool:
        """Write a chunk. Return False when the stream has ended: its reader knows why."""
        for buffer in chunk.blocks:
            for at in range(0, len(buffer), self._block_bytes):
                block = buffer[at : at + self._block_bytes]
                if not await lane.stream.send(Frame(header, block)):
                    return False
                header = b""
                self._touch(lane)
                self._meter.sent(len(block))
        return True

    async def _listen(self, lane: _Lane) -> None:
        async for event in lane.stream.events():
            self._touch(lane)
            match event:
                case Accepted():
                    self._accepted(lane, event)
                case Stored(watermark=watermark):
                    self._meter.stored(self._bytes_below(watermark))
                case Throttled(needed_number=needed):
                    # Rule 5: the chunk is delayed, not refused. Keep the stream open.
                    lane.throttled_by, lane.delay_text = needed, event.explanation
                    self._board.prefer(needed)
                    self._meter.wait(Phase.THROTTLED, lane.delay_text, 0.0)
        lane.check_settled()
        if not lane.settled.is_set():
            raise Unavailable("STREAM_ENDED", "the server ended the stream before its last chunk")

    def _accepted(self, lane: _Lane, event: Accepted) -> None:
        lane.throttled_by = None
        flight = lane.in_flight.pop(event.number, None)
        if flight is None:
            return
        if flight.crc32c != event.crc32c:
            raise DataLoss(
                "FOREIGN_CHUNK",
                f"the server keeps other bytes for chunk {event.number} than were sent; the upload"
                " cannot continue",
            )
        self._arrived(event.number, flight.size)
        lane.window.release()
        lane.check_settled()

    async def _until_settled(self, lane: _Lane) -> None:
        """Wait until the stream is settled. Fail a stream without activity, whatever TCP reports.

        While the server delays a chunk, silence is valid: keepalive detects a dead connection, and
        patience bounds the whole.
        """
        clock = asyncio.get_running_loop().time
        often = min(self._stall_seconds, _THROTTLE_CHECK_SECONDS) / 2
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(often):
                    await lane.settled.wait()
                return
            quiet = clock() - lane.last_event
            limit = self._stall_seconds
            if lane.throttled_by is not None:
                limit = self._patience.policy.patience_seconds
                self._meter.wait(Phase.THROTTLED, lane.delay_text, quiet)
                if quiet >= _THROTTLE_CHECK_SECONDS:
                    await self._check_taken_back(lane.throttled_by)
            if quiet >= limit:
                raise Unavailable("STREAM_STALLED", f"nothing moved on a stream for {quiet:.0f} s")

    async def _check_taken_back(self, needed: int) -> None:
        """Check for an acknowledged chunk that the server found damaged and waits for (rule 8)."""
        if self._board.is_accepted(needed) and missing_of(await self._status(), (needed,)):
            self._take_back([needed])
            raise Aborted("CHUNK_TAKEN_BACK", f"the server needs chunk {needed} again")

    # -- after a broken stream

    async def _recover(
        self, error: SluiceError, in_flight: dict[int, _InFlight], attempt: int
    ) -> None:
        """Find out which chunks of a broken stream arrived. Raise permanent errors."""
        if isinstance(error, FailedPrecondition) and error.reason in _NO_MORE_CHUNKS:
            self._give_back(in_flight)
            raise Ended(
                await retrying(lambda: self._intake.status(self._upload_id), self._patience)
            )
        if error.reason == "CHECKSUM_MISMATCH" and self._damaged < _DAMAGED_TRIES:
            self._damaged += 1
        else:
            await self._patience.pause(error, attempt)
        needed = error.metadata.get("needed_number", "")
        if needed.isdecimal():
            # LOOKAHEAD_EXCEEDED, BUDGET_FULL: only this chunk advances the upload (rule 10).
            self._board.prefer(int(needed))
        if not any(flight.begun for flight in in_flight.values()):
            self._give_back(in_flight)
            return
        status = await self._status()
        missing = missing_of(status, in_flight)
        for number, flight in in_flight.items():
            if number in missing:
                self._board.give_back(number)
            else:
                self._arrived(number, flight.size)
        in_flight.clear()
        # Chunks that another lane gave back may have arrived after that lane had asked.
        returned = self._board.returned()
        for number in returned - missing_of(status, returned):
            self._arrived(number, 0)

    def _take_back(self, lost: list[int]) -> None:
        """Mark acknowledged chunks as missing again. Raise for a one-way source."""
        if lost and not self._source.repeatable:
            raise SourceNotRepeatable(
                "SOURCE_NOT_REPEATABLE",
                f"the server lost {len(lost)} chunks that it had acknowledged, and this source can"
                " be read only once; upload it again",
                metadata={"upload_id": self._upload_id},
            )
        for number in lost:
            self._board.take_back(number)
            self._meter.taken_back(self._size_of(number))

    def _give_back(self, in_flight: dict[int, _InFlight]) -> None:
        for number in in_flight:
            self._board.give_back(number)
        in_flight.clear()

    async def _status(self) -> UploadStatus:
        """Return the upload's newest status while it accepts chunks; raise Ended otherwise.

        Lanes query concurrently, and answers may overtake each other.
        """
        status = await retrying(lambda: self._intake.status(self._upload_id), self._patience)
        if self._newest is None or status.sequence >= self._newest.sequence:
            self._newest = status
        if self._newest.state not in (UploadState.PENDING, UploadState.UPLOADING):
            raise Ended(self._newest)
        return self._newest

    def _arrived(self, number: int, size: int) -> None:
        self._source.forget(number)
        self._patience.progressed()
        if self._board.accept(number):
            self._meter.accepted(size or self._size_of(number))

    def _touch(self, lane: _Lane) -> None:
        lane.last_event = asyncio.get_running_loop().time()

    def _size_of(self, number: int) -> int:
        """Return the bytes of a chunk; only the last one may be shorter."""
        size, begin = self._source.size, number * self._chunk_size
        return self._chunk_size if size is None else min(self._chunk_size, size - begin)

    def _bytes_below(self, watermark: int) -> int:
        size = self._source.size
        below = watermark * self._chunk_size
        return below if size is None else min(below, size)


_NO_MORE_CHUNKS = frozenset({"UPLOAD_ENDED", "UPLOAD_COMPLETING"})
_NOTHING_TO_DO = Unavailable(
    "STATUS_UNCLEAR", "the server says neither that it has every chunk nor which one it lacks"
)
