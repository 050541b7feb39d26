"""Append-only event log of one machine in JSON Lines, one CloudEvent per line."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from sluice_backends.disk import DiskThreads, make_directories, sync_directory, write_all
from sluice_core.errors import DataLoss
from sluice_core.events.cloudevents import from_line, to_line
from sluice_core.ports.event_publisher import EventRecord
from sluice_core.uploads.model import MIB

_log = structlog.get_logger(__name__)

SEGMENT_BYTES = 64 * MIB
_SEGMENT = re.compile(r"events-(\d{6,})\.jsonl")
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, order=True)
class LogPosition:
    """Position after an event. Positions sort in the order of their events."""

    segment: int = 0
    offset: int = 0


BEGINNING = LogPosition()


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """Event with the position after it."""

    position: LogPosition
    record: EventRecord


class EventLog:
    """`EventPublisher` that appends to the log; created by `open_event_log`.

    The log is a directory of segments: events-000001.jsonl and so on. A new segment begins when
    the last one exceeds a size. Full segments are never written again: an operator may move or
    remove them.
    """

    def __init__(self, threads: DiskThreads, writer: _Writer) -> None:
        self._threads = threads
        self._writer = writer
        self._lock = asyncio.Lock()

    async def publish(self, events: Sequence[EventRecord]) -> None:
        """Append events; also raise `ResourceExhausted` DISK_FULL.

        A failed call may leave some events in the log; a retry appends them again.
        """
        async with self._lock:
            await self._threads.run(self._writer.append, events)


@asynccontextmanager
async def open_event_log(
    path: Path, *, fsync: bool, segment_bytes: int = SEGMENT_BYTES
) -> AsyncIterator[EventLog]:
    """Open the log in the directory `path`, created if missing; one writing process at a time.

    An unfinished last line of a killed process is truncated. Its events were never reported as
    published, so they are published again.

    Args:
        fsync: make published events durable across power loss.
        segment_bytes: size beyond which a new segment begins.
    """
    threads = DiskThreads("events", workers=1, unavailable="EVENT_LOG_UNAVAILABLE")
    try:
        writer = await threads.run(_Writer, path, fsync=fsync, segment_bytes=segment_bytes)
        try:
            yield EventLog(threads, writer)
        finally:
            await threads.run(writer.close)
    finally:
        await threads.aclose()


async def read_events(
    path: Path, after: LogPosition = BEGINNING
) -> AsyncGenerator[LoggedEvent, None]:
    """Yield the events after a position, up to the last completely written one.

    Safe while the log is written. Raise `DataLoss` EVENT_LOG_DAMAGED for a line that is not an
    event, `Unavailable` EVENT_LOG_UNAVAILABLE when the files cannot be read.
    """
    threads = DiskThreads("event-reader", workers=1, unavailable="EVENT_LOG_UNAVAILABLE")
    try:
        async with aclosing(threads.stream(_read(path, after))) as batches:
            async for batch in batches:
                for event in batch:
                    yield event
    finally:
        await threads.aclose()


async def end_of_log(path: Path) -> LogPosition:
    """Return the position after the last complete event; raise the errors of `read_events`."""
    threads = DiskThreads("event-reader", workers=1, unavailable="EVENT_LOG_UNAVAILABLE")
    try:
        return await threads.run(_end, path)
    finally:
        await threads.aclose()


class _Writer:
    """Writer of the open segment. Blocks; one thread at a time."""

    def __init__(self, path: Path, *, fsync: bool, segment_bytes: int) -> None:
        self._path = path
        self._fsync = fsync
        self._segment_bytes = segment_bytes
        make_directories(path, fsync=fsync)
        self._segment = max(_segments(path), default=1)
        self._fd = self._open()
        try:
            self._size = self._truncate_torn_line()
        except BaseException:
            self.close()
            raise

    def append(self, events: Sequence[EventRecord]) -> None:
        lines = b"".join(to_line(event) for event in events)
        if os.fstat(self._fd).st_size != self._size:
            # An earlier call failed halfway. Keep its complete lines: readers may have read them.
            self._size = self._truncate_torn_line()
        if self._size >= self._segment_bytes:
            self._rotate()
        write_all(self._fd, lines)
        if self._fsync:
            os.fsync(self._fd)
        self._size += len(lines)

    def _truncate_torn_line(self) -> int:
        """Truncate an unfinished last line; return the remaining size."""
        complete = _complete_bytes(self._fd)
        torn_bytes = os.fstat(self._fd).st_size - complete
        if torn_bytes:
            _log.warning("event_log.truncated", segment=self._segment, torn_bytes=torn_bytes)
            os.ftruncate(self._fd, complete)
        return complete

    def close(self) -> None:
        os.close(self._fd)

    def _rotate(self) -> None:
        full = self._fd
        self._segment += 1
        self._fd = self._open()
        self._size = 0
        os.close(full)

    def _open(self) -> int:
        name = f"events-{self._segment:06d}.jsonl"
        fd = os.open(self._path / name, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        if self._fsync:
            sync_directory(self._path)
        return fd


def _segments(path: Path) -> dict[int, Path]:
    """Return the log's segments by number."""
    matches = ((_SEGMENT.fullmatch(entry.name), entry) for entry in path.iterdir())
    return {int(match[1]): entry for match, entry in matches if match is not None}


def _complete_bytes(fd: int) -> int:
    """Return the size of a segment up to the end of its last complete line."""
    end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - _TAIL_BYTES)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _read(path: Path, after: LogPosition) -> Generator[list[LoggedEvent], None, None]:
    """Yield events in batches, one thread hand-off each."""
    for number, segment in sorted(_segments(path).items()):
        if number < after.segment:
            continue
        offset = after.offset if number == after.segment else 0
        fd = os.open(segment, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while lines := _complete_lines(fd, offset):
                batch: list[LoggedEvent] = []
                for line in lines:
                    record = _parse(line)
                    if record is None:
                        break
                    offset += len(line)
                    batch.append(LoggedEvent(LogPosition(number, offset), record))
                if batch:
                    yield batch
                elif os.pread(fd, len(lines[0]), offset) == lines[0]:
                    raise DataLoss(
                        "EVENT_LOG_DAMAGED",
                        "A line of the event log is not an event; repair or remove its segment.",
                    )
                # Else the line replaced a truncated one during the read: read it again.
        finally:
            os.close(fd)


def _complete_lines(fd: int, offset: int) -> list[bytes]:
    """Return the next complete lines of a segment, about 1 MiB of them.

    An unfinished last line is being written, or is torn and will be truncated. The next read has
    to begin at its start: continuing after it would take its rest for a line.
    """
    read_bytes = MIB
    while True:
        block = os.pread(fd, read_bytes, offset)
        end = block.rfind(b"\n") + 1
        if end:
            return [line + b"\n" for line in block[: end - 1].split(b"\n")]
        if len(block) < read_bytes:
            return []
        read_bytes *= 2


def _end(path: Path) -> LogPosition:
    segments = _segments(path)
    if not segments:
        return BEGINNING
    last = max(segments)
    fd = os.open(segments[last], os.O_RDONLY | os.O_CLOEXEC)
    try:
        return LogPosition(last, _complete_bytes(fd))
    finally:
        os.close(fd)


def _parse(line: bytes) -> EventRecord | None:
    """Return the event of a line; None if the line is not an event."""
    try:
        return from_line(line)
    except ValueError:
        return None
