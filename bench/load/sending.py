"""Sending the chunks of an upload over streams or unary calls, and noting what comes back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import grpc.aio
from grpc.aio import EOF  # type: ignore[attr-defined]

from bench.latency import Latencies
from bench.load.payload import Payload
from bench.load.schedule import Schedule
from sluice.upload.v1 import upload_pb2

_SERVICE: Final = "/sluice.upload.v1.IntakeService"
_PAUSE_SECONDS: Final = 0.05
MAX_FAILURES: Final = 50
"""Calls of one sender that fail one after the other before it gives up."""


class GaveUpError(Exception):
    """Nothing gets through: there is nothing to measure."""


@dataclass(slots=True)
class Upload:
    """One upload: which numbers are taken, which have to be sent again."""

    upload_id: str
    again: deque[int] = field(default_factory=deque)
    _numbers: Iterator[int] = field(default_factory=count)
    total: int = 0

    def next_number(self) -> int:
        if self.again:
            return self.again.popleft()
        self.total += 1
        return next(self._numbers)


@dataclass(slots=True)
class Figures:
    """What one run saw.

    `ack_after_last_byte`: from handing the last block to gRPC until the acknowledgement.
    `round_trips`: from handing over the first byte. `since_due`: from when the chunk was due, in
    the open loop only. `marks`: seconds after the beginning at which every so many were in.
    """

    bytes: int = 0
    chunks: int = 0
    throttled: int = 0
    acknowledged_at: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    ack_after_last_byte: Latencies = field(default_factory=Latencies)
    round_trips: Latencies = field(default_factory=Latencies)
    since_due: Latencies = field(default_factory=Latencies)
    marks: list[float] = field(default_factory=list)


@dataclass(slots=True)
class _InFlight:
    due: float
    begun: float
    last_byte: float = 0.0


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends what is due; one object for all streams of a run."""

    payload: Payload
    schedule: Schedule
    window: int
    out: Figures
    mark_every: int = 0

    async def by_stream(self, channel: grpc.aio.Channel, upload: Upload) -> None:
        """Over a stream, opened anew when it fails: what was in flight is an error each, and is
        sent again."""
        failures = 0
        while True:
            in_flight: dict[int, _InFlight] = {}
            before = self.out.chunks
            code = await self._one_stream(channel, upload, in_flight)
            if code is None:
                return
            self.out.errors[code] += max(1, len(in_flight))
            upload.again.extend(in_flight)
            failures = failures + 1 if self.out.chunks == before else 1
            await _pause(failures, code)

    async def _one_stream(
        self, channel: grpc.aio.Channel, upload: Upload, in_flight: dict[int, _InFlight]
    ) -> str | None:
        """Send until nothing is due any more; the code of the call if it failed before."""
        method: Any = channel.stream_stream(
            f"{_SERVICE}/UploadStream",
            request_serializer=None,
            response_deserializer=upload_pb2.UploadStreamResponse.FromString,
        )
        call = method()
        free = asyncio.Semaphore(self.window)
        failed = False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(call, free, in_flight))
                await self._write(call, upload, free, in_flight)
                await call.done_writing()
        except* (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            failed = True
        finally:
            call.cancel()
        return str((await call.code()).name) if failed else None

    async def _write(
        self,
        call: Any,
        upload: Upload,
        free: asyncio.Semaphore,
        in_flight: dict[int, _InFlight],
    ) -> None:
        clock = time.perf_counter
        while True:
            # Room first: a chunk that was taken is sent at once.
            await free.acquire()
            due = clock() if upload.again else await self.schedule.take()
            if due is None:
                return
            number = upload.next_number()
            content = self.payload.content(number)
            noted = in_flight[number] = _InFlight(due, clock())
            await call.write(content.header(upload.upload_id, number))
            for block in content.blocks[:-1]:
                await call.write(block)
            # Noted before the write: the acknowledgement may be read before it returns.
            noted.last_byte = clock()
            await call.write(content.blocks[-1])

    async def _read(
        self, call: Any, free: asyncio.Semaphore, in_flight: dict[int, _InFlight]
    ) -> None:
        """Until the server ends the call, which it does when everything is answered."""
        while (answer := await call.read()) is not EOF:
            match answer.WhichOneof("event"):
                case "accepted":
                    noted = in_flight.pop(answer.accepted.number)
                    self._acknowledged(noted, answer.accepted.size)
                    free.release()
                case "throttled":
                    self.out.throttled += 1

    async def by_calls(self, channel: grpc.aio.Channel, upload: Upload) -> None:
        """By unary calls: the next chunk after the answer to the one before.

        The request is serialized before the clock starts: what is timed is the exchange.
        """
        upload_chunk: Any = channel.unary_unary(
            f"{_SERVICE}/UploadChunk",
            request_serializer=None,
            response_deserializer=upload_pb2.UploadChunkResponse.FromString,
        )
        failures = 0
        while True:
            due = time.perf_counter() if upload.again else await self.schedule.take()
            if due is None:
                return
            number = upload.next_number()
            request = self.payload.content(number).unary(upload.upload_id, number)
            begun = time.perf_counter()
            try:
                answer = await upload_chunk(request)
            except grpc.aio.AioRpcError as error:
                self.out.errors[error.code().name] += 1
                upload.again.append(number)
                failures += 1
                await _pause(failures, error.code().name)
                continue
            failures = 0
            self._acknowledged(_InFlight(due, begun, begun), answer.accepted.size)

    def _acknowledged(self, noted: _InFlight, size: int) -> None:
        out, now = self.out, time.perf_counter()
        out.ack_after_last_byte.record(now - noted.last_byte)
        out.round_trips.record(now - noted.begun)
        if self.schedule.rate is not None:
            out.since_due.record(now - noted.due)
        out.bytes += size
        out.chunks += 1
        out.acknowledged_at = now
        if self.mark_every and out.chunks % self.mark_every == 0:
            out.marks.append(now)


async def _pause(failures: int, code: str) -> None:
    if failures >= MAX_FAILURES:
        raise GaveUpError(f"{failures} calls in a row failed, the last one with {code}")
    await asyncio.sleep(_PAUSE_SECONDS)
