"""The event log of one machine: append-only JSON Lines, one CloudEvent each.

A folder of segments, events-000001.jsonl and on; a new one begins once the last has grown past a
size. Segments that are full are never written again: an operator may move or remove them.
"""

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
    """A place in the log: just behind an event. Positions order as their events do."""

    segment: int = 0
    offset: int = 0


BEGINNING = LogPosition()


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event and the position from which the log goes on after it."""

    position: LogPosition
    record: EventRecord


class EventLog:
    """An `EventPublisher` that appends to the log; made by `open_event_log`."""

    def __init__(self, threads: DiskThreads, writer: _Writer) -> None:
        self._threads = threads
        self._writer = writer
        self._turn = asyncio.Lock()

    async def publish(self, events: Sequence[EventRecord]) -> None:
        """As the port says; also raises `ResourceExhausted` DISK_FULL. Some events of a failed
        call may be in the log, and come again when it is repeated."""
        async with self._turn:
            await self._threads.run(self._writer.append, events)


@asynccontextmanager
async def open_event_log(
    path: Path, *, fsync: bool, segment_bytes: int = SEGMENT_BYTES
) -> AsyncIterator[EventLog]:
    """The log in the folder `path`, which is made; one process may write it at a time.

    A last line that a killed process left unfinished is cut off: its events were never reported
    as published, so they will be published again.

    Args:
        fsync: events that were published survive a power cut.
        segment_bytes: a segment that has grown past this is followed by a new one.
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
    """The events of a log from a position on, up to the last one that is wholly written.

    May be used while the log is written. Raises `DataLoss` EVENT_LOG_DAMAGED for a line that is
    no event, `Unavailable` EVENT_LOG_UNAVAILABLE when the files cannot be read.
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
    """The position behind the last event that is wholly written. Raises as `read_events` does."""
    threads = DiskThreads("event-reader", workers=1, unavailable="EVENT_LOG_UNAVAILABLE")
    try:
        return await threads.run(_end, path)
    finally:
        await threads.aclose()


class _Writer:
    """The open segment. Blocks; one thread at a time."""

    def __init__(self, path: Path, *, fsync: bool, segment_bytes: int) -> None:
        self._path = path
        self._fsync = fsync
        self._segment_bytes = segment_bytes
        make_directories(path, fsync=fsync)
        self._segment = max(_segments(path), default=1)
        self._fd = self._open()
        try:
            self._size = self._cut_torn_line()
        except BaseException:
            self.close()
            raise

    def append(self, events: Sequence[EventRecord]) -> None:
        lines = b"".join(to_line(event) for event in events)
        if os.fstat(self._fd).st_size != self._size:
            # An earlier call failed half-way. Its whole lines stay: readers may be past them.
            self._size = self._cut_torn_line()
        if self._size >= self._segment_bytes:
            self._rotate()
        write_all(self._fd, lines)
        if self._fsync:
            os.fsync(self._fd)
        self._size += len(lines)

    def _cut_torn_line(self) -> int:
        """Cut off a line without an end; the size that is left."""
        whole = _without_torn_line(self._fd)
        torn_bytes = os.fstat(self._fd).st_size - whole
        if torn_bytes:
            _log.warning("torn_event_cut_off", segment=self._segment, torn_bytes=torn_bytes)
            os.ftruncate(self._fd, whole)
        return whole

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
    """The log's segments by number."""
    matches = ((_SEGMENT.fullmatch(entry.name), entry) for entry in path.iterdir())
    return {int(match[1]): entry for match, entry in matches if match is not None}


def _without_torn_line(fd: int) -> int:
    """The size of a segment up to the end of its last whole line."""
    end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - _TAIL_BYTES)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _read(path: Path, after: LogPosition) -> Generator[list[LoggedEvent], None, None]:
    """Events in batches, each worth one trip to a thread."""
    for number, segment in sorted(_segments(path).items()):
        if number < after.segment:
            continue
        offset = after.offset if number == after.segment else 0
        fd = os.open(segment, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while lines := _whole_lines(fd, offset):
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
                        "A line of the event log is no event; repair or remove its segment.",
                    )
                # Else the line was read while a torn one made way for it: it is read again.
        finally:
            os.close(fd)


def _whole_lines(fd: int, offset: int) -> list[bytes]:
    """The next lines of a segment, about 1 MiB of them, without a last one that has no end.

    Such a line is not there yet: it is being written, or it is torn and will be cut off. The next
    read begins with it again. Going on where this read stopped would take its rest for a line.
    """
    wanted = MIB
    while True:
        block = os.pread(fd, wanted, offset)
        end = block.rfind(b"\n") + 1
        if end:
            return [line + b"\n" for line in block[: end - 1].split(b"\n")]
        if len(block) < wanted:
            return []
        wanted *= 2


def _end(path: Path) -> LogPosition:
    segments = _segments(path)
    if not segments:
        return BEGINNING
    last = max(segments)
    fd = os.open(segments[last], os.O_RDONLY | os.O_CLOEXEC)
    try:
        return LogPosition(last, _without_torn_line(fd))
    finally:
        os.close(fd)


def _parse(line: bytes) -> EventRecord | None:
    """The event of a line; None for a line that is no event."""
    try:
        return from_line(line)
    except ValueError:
        return None
