"""Source that follows the event log of a single machine."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from sluice_backends.disk import DiskThreads
from sluice_backends.log.event_log import BEGINNING, LogPosition, read_events
from sluice_core.concurrency.attempts import FinalFailure
from sluice_core.errors import SluiceError
from sluice_core.events.registry import BadEvent, parse_record
from sluice_core.ports.event_publisher import UPLOADS_TOPIC, EventPublisher, EventRecord
from sluice_processor.metrics import ProcessorMetrics
from sluice_processor.nodes.handler import RETRY_LATER_REASONS, NodeProcessor
from sluice_processor.options import ProcessorOptions
from sluice_processor.sources.attempts import process_with_retries
from sluice_processor.sources.log_dead_letters import LogDeadLetters, PostponedRetry
from sluice_processor.sources.work import work_of

_log = structlog.get_logger(__name__)
_SOURCE: Final = "log"
_NOTE_SECONDS: Final = 1.0
"""Minimum interval between writes of the position; events repeated after a crash are no-ops."""
_POLL_SECONDS: Final = 5.0
"""Poll interval for replays; new events wake the source."""
_LINGER_SECONDS: Final = 0.2
"""Pause after new events, so that the next ones form a batch: several nodes cost little more than
one, and uploads in progress take precedence."""
_WINDOW: Final = 64
"""Events read ahead of the oldest unfinished one, per concurrent node."""


class WakingPublisher:
    """Publisher that wakes a reader of the log for new events of some topics.

    By default upload events: those that the processor itself publishes do not wake it.
    """

    def __init__(
        self,
        publisher: EventPublisher,
        wake: asyncio.Event,
        topics: Sequence[str] = (UPLOADS_TOPIC,),
    ) -> None:
        self._publisher = publisher
        self._wake = wake
        self._topics = frozenset(topics)

    async def publish(self, events: Sequence[EventRecord]) -> None:
        await self._publisher.publish(events)
        if any(event.topic in self._topics for event in events):
            self._wake.set()


@dataclass(slots=True)
class _Read:
    """An event that was read; `task` handles it, if it needs handling."""

    position: LogPosition
    task: asyncio.Task[None] | None


class LogSource:
    """Follows the log and processes a few nodes concurrently.

    The position is stored in a file and never runs ahead of the work: after a `kill -9` some
    events are repeated, which is harmless, and none is lost.

    Args:
        events: the folder of the log.
        state: a folder for the position and the dead letters.
        wake: set by the writer of the log.
    """

    def __init__(
        self,
        events: Path,
        state: Path,
        wake: asyncio.Event,
        processor: NodeProcessor,
        options: ProcessorOptions,
        metrics: ProcessorMetrics,
    ) -> None:
        self._events = events
        self._note = state / "position.json"
        self._letters = LogDeadLetters(state)
        self._wake = wake
        self._processor = processor
        self._options = options
        self._metrics = metrics
        self._dead_letters = metrics.consumer.dead_letters.labels(_SOURCE)
        self._window: deque[_Read] = deque()
        self._slots = asyncio.Semaphore(options.concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._retrying: set[str] = set()
        """Events whose postponed retry is in progress."""
        self._next_due = 0.0
        """When the next postponed retry is due, in seconds since the epoch; 0: not read yet."""
        self._position = BEGINNING
        """The log has been read up to here."""
        self._handled = BEGINNING
        """All events up to here are finished."""
        self._noted = BEGINNING
        self._noted_at = 0.0
        self._threads = DiskThreads(
            "processor-log", workers=1, unavailable="PROCESSOR_STATE_UNAVAILABLE"
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the log until `stop`; events in progress then have the drain time to finish."""
        try:
            self._handled = self._position = await self._threads.run(self._load)
            async with asyncio.TaskGroup() as group:
                ender = group.create_task(self._drain_on_stop(stop))
                while not stop.is_set():
                    self._wake.clear()
                    before = self._position
                    try:
                        await self._replay(group)
                        await self._start_due_retries(group, stop)
                        await self._read(group, stop)
                    except SluiceError as error:
                        _log.warning("event_log.read_failed", error=str(error))
                    await self._save_position()
                    if self._position != before:
                        await _pause(stop, _LINGER_SECONDS)
                    if not stop.is_set():
                        await self._wait_for_work()
                if self._tasks:
                    await asyncio.wait(self._tasks)
                ender.cancel()
            await self._save_position(at_once=True)
        finally:
            await self._threads.aclose()

    async def _read(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        """Start handling unread events, up to the end of the log or an unreadable entry."""
        async with aclosing(read_events(self._events, self._position)) as events:
            async for event in events:
                task = None
                if event.record.topic == UPLOADS_TOPIC:
                    task = await self._begin(group, event.record, stop)
                    if task is None:
                        return
                self._position = event.position
                self._window.append(_Read(event.position, task))
                await self._limit_window(stop)

    async def _begin(
        self,
        group: asyncio.TaskGroup,
        record: EventRecord,
        stop: asyncio.Event,
        retry_number: int = 0,
    ) -> asyncio.Task[None] | None:
        """Wait for a slot and handle an event in the background; None once `stop` is set."""
        await self._slots.acquire()
        if stop.is_set():
            self._slots.release()
            return None
        task = group.create_task(self._handle(record, retry_number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _limit_window(self, stop: asyncio.Event) -> None:
        """Bound the window: a slow event must not accumulate all later ones in memory."""
        while len(self._window) > _WINDOW * self._options.concurrency and not stop.is_set():
            oldest = self._window[0].task
            if oldest is not None:
                await asyncio.wait([oldest])
            self._advance()

    async def _handle(self, record: EventRecord, retry_number: int = 0) -> None:
        """Process an event, postpone it or write a dead letter; holds a slot.

        Args:
            retry_number: postponed retries so far, this one included.
        """
        try:
            failure = await self._attempt(record, is_final=retry_number >= self._options.retries)
            if failure is None:
                pass
            elif failure.reason in RETRY_LATER_REASONS and retry_number < self._options.retries:
                await self._postpone(record, failure, retry_number + 1)
                return
            else:
                await self._write_dead_letter(record, failure)
            if retry_number:
                await self._write_state(record, self._letters.discard_postponed, record.event_id)
        finally:
            self._slots.release()
            self._retrying.discard(record.event_id)

    async def _attempt(self, record: EventRecord, *, is_final: bool) -> FinalFailure | None:
        try:
            work = work_of(record, parse_record(record))
        except BadEvent as error:
            return FinalFailure(error.reason, str(error), 0)
        if work is None:
            return None
        return await process_with_retries(
            self._processor, replace(work, is_final=is_final), self._options
        )

    async def _write_dead_letter(self, record: EventRecord, cause: FinalFailure) -> None:
        _log.error("event.dead_lettered", event_id=record.event_id, reason=cause.reason)
        await self._write_state(record, self._letters.write, record, cause, time.time())
        self._dead_letters.inc()

    async def _postpone(self, record: EventRecord, cause: FinalFailure, number: int) -> None:
        seconds = self._options.retry_seconds
        _log.warning(
            "event.postponed", event_id=record.event_id, reason=cause.reason, seconds=seconds
        )
        later = PostponedRetry(record, number, time.time() + seconds)
        await self._write_state(record, self._letters.postpone, later)
        self._note_due(later)

    async def _write_state(
        self, record: EventRecord, keep: Callable[..., None], *arguments: object
    ) -> None:
        """Write to the state directory; retry until it succeeds."""
        while True:
            try:
                await self._threads.run(keep, *arguments)
            except SluiceError as error:
                # The position stays before this event, so nothing is skipped.
                _log.warning("dead_letter.write_failed", event_id=record.event_id, error=str(error))
                await asyncio.sleep(self._options.retry_cap_seconds)
            else:
                return

    async def _replay(self, group: asyncio.TaskGroup) -> None:
        """Handle replayed dead letters, before new events."""
        for record in await self._threads.run(self._letters.to_replay):
            task = await self._begin(group, record, asyncio.Event())
            assert task is not None, "the event is never set"
            await asyncio.wait([task])
            if task.cancelled():
                return
            await self._threads.run(self._letters.discard_replay, record.event_id)

    async def _start_due_retries(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        """Start the postponed retries that are due, concurrently with new events."""
        if time.time() < self._next_due:
            return
        self._next_due = math.inf
        for later in await self._threads.run(self._letters.postponed):
            event_id = later.record.event_id
            if event_id in self._retrying:
                continue
            if later.due > time.time():
                self._note_due(later)
                return
            self._retrying.add(event_id)
            if await self._begin(group, later.record, stop, later.number) is None:
                return

    def _note_due(self, later: PostponedRetry) -> None:
        self._next_due = min(self._next_due, later.due)

    def _advance(self) -> None:
        """Advance the position past finished events; cancelled ones are not finished."""
        while self._window:
            oldest = self._window[0]
            if oldest.task is not None and (not oldest.task.done() or oldest.task.cancelled()):
                return
            self._handled = self._window.popleft().position

    async def _save_position(self, *, at_once: bool = False) -> None:
        """Save the position periodically."""
        self._advance()
        self._metrics.lag.labels(_SOURCE).set(len(self._window))
        now = asyncio.get_running_loop().time()
        if self._handled == self._noted or (now - self._noted_at < _NOTE_SECONDS and not at_once):
            return
        await self._threads.run(self._save, self._handled)
        self._noted, self._noted_at = self._handled, now

    async def _wait_for_work(self) -> None:
        try:
            until_due = max(0.0, self._next_due - time.time())
            async with asyncio.timeout(
                min(_NOTE_SECONDS if self._window else _POLL_SECONDS, until_due)
            ):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _drain_on_stop(self, stop: asyncio.Event) -> None:
        """Wake the source at a stop; cancel unfinished tasks when the drain time is over."""
        await stop.wait()
        self._wake.set()
        await asyncio.sleep(self._options.drain_seconds)
        for task in self._tasks:
            task.cancel()

    def _load(self) -> LogPosition:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return LogPosition(int(note["segment"]), int(note["offset"]))
        except FileNotFoundError:
            return BEGINNING
        except (ValueError, KeyError, TypeError):
            _log.warning("position.read_failed", file=str(self._note))
            return BEGINNING  # repeat everything: finished nodes are no-ops

    def _save(self, position: LogPosition) -> None:
        self._note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._note.with_suffix(".new")
        note = {"segment": position.segment, "offset": position.offset}
        draft.write_text(json.dumps(note), encoding="utf-8")
        draft.replace(self._note)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
