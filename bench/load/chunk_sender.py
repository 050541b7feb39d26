"""Sending of an upload's chunks over streams or unary calls, and recording of the answers."""

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
from bench.load.schedule import Pace, Schedule
from sluice.upload.v1 import upload_pb2

_SERVICE: Final = "/sluice.upload.v1.IntakeService"
_PAUSE_SECONDS: Final = 0.05
MAX_FAILURES: Final = 50
"""Consecutive failed calls of one sender before it stops."""


def upload_stream(channel: grpc.aio.Channel) -> Any:
    """Return the UploadStream call for messages that are already serialized."""
    return channel.stream_stream(
        f"{_SERVICE}/UploadStream",
        request_serializer=None,
        response_deserializer=upload_pb2.UploadStreamResponse.FromString,
    )


def upload_chunk(channel: grpc.aio.Channel) -> Any:
    """Return the UploadChunk call for a message that is already serialized."""
    return channel.unary_unary(
        f"{_SERVICE}/UploadChunk",
        request_serializer=None,
        response_deserializer=upload_pb2.UploadChunkResponse.FromString,
    )


class LoadFailedError(Exception):
    """Every call fails: there is nothing to measure."""


@dataclass(slots=True)
class Upload:
    """One upload: which numbers are taken, which have to be resent."""

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
    """Figures of one run.

    `ack_after_last_byte`: from passing the last block to gRPC until the acknowledgement.
    `round_trips`: from passing the first byte. `since_due`: only in the open loop, from when the
    chunk was due; at a pace, from when its last block was.
    """

    bytes: int = 0
    chunks: int = 0
    throttled: int = 0
    acknowledged_at: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    ack_after_last_byte: Latencies = field(default_factory=Latencies)
    round_trips: Latencies = field(default_factory=Latencies)
    since_due: Latencies = field(default_factory=Latencies)

    def to_json(self, begun: float, ended: float, cpu_seconds: float) -> dict[str, object]:
        """Return the figures as documented in bench/load/uploads.py; the clock ran from `begun` to
        `ended`.
        """
        return {
            "bytes": self.bytes,
            "chunks": self.chunks,
            "seconds": ended - begun,
            "acknowledged_seconds": self.acknowledged_at - begun,
            "cpu_seconds": cpu_seconds,
            "throttled": self.throttled,
            "errors": dict(self.errors),
            "ack_after_last_byte": self.ack_after_last_byte.to_json(),
            "round_trips": self.round_trips.to_json(),
            "since_due": self.since_due.to_json(),
        }


@dataclass(slots=True)
class _InFlight:
    due: float | None
    """None in the closed loop."""
    begun: float
    last_byte: float = 0.0


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends due chunks; one object for all streams of a run."""

    payload: Payload
    schedule: Schedule
    window: int
    out: Figures

    async def by_stream(
        self, channel: grpc.aio.Channel, upload: Upload, pace: Pace | None = None
    ) -> None:
        """Send over a stream, reopened when it fails: each chunk in flight counts as an error and
        is resent.
        """
        failures = 0
        while True:
            in_flight: dict[int, _InFlight] = {}
            before = self.out.chunks
            code = await self._one_stream(channel, upload, in_flight, pace)
            if code is None:
                return
            self.out.errors[code] += max(1, len(in_flight))
            upload.again.extend(in_flight)
            failures = failures + 1 if self.out.chunks == before else 1
            await _pause(failures, code)

    async def _one_stream(
        self,
        channel: grpc.aio.Channel,
        upload: Upload,
        in_flight: dict[int, _InFlight],
        pace: Pace | None,
    ) -> str | None:
        """Send until nothing is due. Return the code of the call if it failed."""
        call = upload_stream(channel)()
        free = asyncio.Semaphore(self.window)
        failed = False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(call, free, in_flight))
                await self._write(call, upload, free, in_flight, pace)
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
        pace: Pace | None,
    ) -> None:
        clock = time.perf_counter
        while True:
            # Wait for room first: a chunk is sent as soon as it is taken.
            await free.acquire()
            due = clock() if upload.again else await self.schedule.take()
            if due is None:
                return
            number = upload.next_number()
            content = self.payload.content(number)
            noted = in_flight[number] = _InFlight(self._noted_due(due), clock())
            await call.write(content.header(upload.upload_id, number))
            *blocks, last = content.blocks
            for block in blocks:
                if pace is not None:
                    await pace.take(len(block))
                await call.write(block)
            if pace is not None:
                noted.due = await pace.take(len(last))
            # Recorded before the write: the acknowledgement may be read before it returns.
            noted.last_byte = clock()
            await call.write(last)

    def _noted_due(self, due: float) -> float | None:
        return None if self.schedule.rate is None else due

    async def _read(
        self, call: Any, free: asyncio.Semaphore, in_flight: dict[int, _InFlight]
    ) -> None:
        """Read until the server ends the call, which it does when everything is answered."""
        while (answer := await call.read()) is not EOF:
            match answer.WhichOneof("event"):
                case "accepted":
                    noted = in_flight.pop(answer.accepted.number)
                    self._acknowledged(noted, answer.accepted.size)
                    free.release()
                case "throttled":
                    self.out.throttled += 1

    async def by_calls(self, channel: grpc.aio.Channel, upload: Upload) -> None:
        """Send by unary calls: each chunk after the answer to the previous one.

        The request is serialized before the clock starts: only the exchange is timed.
        """
        send = upload_chunk(channel)
        failures = 0
        while True:
            due = time.perf_counter() if upload.again else await self.schedule.take()
            if due is None:
                return
            number = upload.next_number()
            request = self.payload.content(number).unary(upload.upload_id, number)
            begun = time.perf_counter()
            try:
                answer = await send(request)
            except grpc.aio.AioRpcError as error:
                self.out.errors[error.code().name] += 1
                upload.again.append(number)
                failures += 1
                await _pause(failures, error.code().name)
                continue
            failures = 0
            noted = _InFlight(self._noted_due(due), begun, begun)
            self._acknowledged(noted, answer.accepted.size)

    def _acknowledged(self, noted: _InFlight, size: int) -> None:
        out, now = self.out, time.perf_counter()
        out.ack_after_last_byte.record(now - noted.last_byte)
        out.round_trips.record(now - noted.begun)
        if noted.due is not None:
            out.since_due.record(now - noted.due)
        out.bytes += size
        out.chunks += 1
        out.acknowledged_at = now


async def _pause(failures: int, code: str) -> None:
    if failures >= MAX_FAILURES:
        raise LoadFailedError(f"{failures} calls in a row failed, the last one with {code}")
    await asyncio.sleep(_PAUSE_SECONDS)
