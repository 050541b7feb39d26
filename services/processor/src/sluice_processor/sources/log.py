"""Work from the event log of one machine.

How far the log has been handled is kept in a file and never ahead of the work, so that after a
`kill -9` some events come again, which is harmless, and none is lost.
"""

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
from sluice_common.telemetry.metrics import Metrics
from sluice_core.errors import SluiceError
from sluice_core.events.registry import BadEvent, parse_record
from sluice_core.ports.event_publisher import UPLOADS_TOPIC, EventPublisher, EventRecord
from sluice_processor.deps import ProcessorOptions
from sluice_processor.nodes.handler import TRIED_LATER, NodeProcessor
from sluice_processor.sources.attempts import GivenUp, attempted
from sluice_processor.sources.log_dead_letters import LaterTry, LogLetters
from sluice_processor.sources.work import work_of

_log = structlog.get_logger(__name__)
_SOURCE: Final = "log"
_NOTE_SECONDS: Final = 1.0
"""The position is written this often at most: what comes again after a crash is passed over."""
_POLL_SECONDS: Final = 5.0
"""Replays are looked for this often; new events wake us."""
_LINGER_SECONDS: Final = 0.2
"""After new events the next ones are let gather: several nodes at once cost little more than one,
and the uploads that are still under way go first."""
_WINDOW: Final = 64
"""Events read ahead of the oldest one in hand, per node that may be in hand."""


class WakingPublisher:
    """Wraps the publisher of the process that writes the log: whoever reads it is woken by what
    may be work for it, and not by what it has published itself."""

    def __init__(self, publisher: EventPublisher, wake: asyncio.Event) -> None:
        self._publisher = publisher
        self._wake = wake

    async def publish(self, events: Sequence[EventRecord]) -> None:
        await self._publisher.publish(events)
        if any(event.topic == UPLOADS_TOPIC for event in events):
            self._wake.set()


@dataclass(slots=True)
class _Read:
    """An event that was read; `task` handles it, if there is anything to handle."""

    position: LogPosition
    task: asyncio.Task[None] | None


class LogSource:
    """Follows the log, a few nodes at a time.

    Args:
        events: the folder of the log.
        state: a folder for the position and the dead letters.
        wake: set by whoever writes the log.
    """

    def __init__(
        self,
        events: Path,
        state: Path,
        wake: asyncio.Event,
        processor: NodeProcessor,
        options: ProcessorOptions,
        metrics: Metrics,
    ) -> None:
        self._events = events
        self._note = state / "position.json"
        self._letters = LogLetters(state)
        self._wake = wake
        self._processor = processor
        self._options = options
        self._metrics = metrics
        self._window: deque[_Read] = deque()
        self._slots = asyncio.Semaphore(options.concurrency)
        self._tasks: set[asyncio.Task[None]] = set()
        self._trying: set[str] = set()
        """Events whose later try is in hand."""
        self._next_due = 0.0
        """When the next later try is due, in seconds since the epoch; 0: not read yet."""
        self._position = BEGINNING
        """The log has been read up to here."""
        self._handled = BEGINNING
        """Everything up to here is through."""
        self._noted = BEGINNING
        self._noted_at = 0.0
        self._threads = DiskThreads(
            "processor-log", workers=1, unavailable="PROCESSOR_STATE_UNAVAILABLE"
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the log until `stop`; what is in hand then may end within the drain time."""
        try:
            self._handled = self._position = await self._threads.run(self._load)
            async with asyncio.TaskGroup() as group:
                ender = group.create_task(self._end_at(stop))
                while not stop.is_set():
                    self._wake.clear()
                    before = self._position
                    try:
                        await self._replay(group)
                        await self._try_due(group, stop)
                        await self._read(group, stop)
                    except SluiceError as error:
                        _log.warning("event_log_waits", error=str(error))
                    await self._note_down()
                    if self._position != before:
                        await _pause(stop, _LINGER_SECONDS)
                    if not stop.is_set():
                        await self._rest()
                if self._tasks:
                    await asyncio.wait(self._tasks)
                ender.cancel()
            await self._note_down(at_once=True)
        finally:
            await self._threads.aclose()

    async def _read(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        """Begin what the log has that was not read yet, up to its end or what cannot be read."""
        async with aclosing(read_events(self._events, self._position)) as events:
            async for event in events:
                task = None
                if event.record.topic == UPLOADS_TOPIC:
                    task = await self._begin(group, event.record, stop)
                    if task is None:
                        return
                self._position = event.position
                self._window.append(_Read(event.position, task))
                await self._bounded(stop)

    async def _begin(
        self,
        group: asyncio.TaskGroup,
        record: EventRecord,
        stop: asyncio.Event,
        tried_later: int = 0,
    ) -> asyncio.Task[None] | None:
        """Handle an event in the background once there is a slot; None when nothing more is to
        be begun."""
        await self._slots.acquire()
        if stop.is_set():
            self._slots.release()
            return None
        task = group.create_task(self._handle(record, tried_later))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _bounded(self, stop: asyncio.Event) -> None:
        """One that takes long must not have us remember all that came after it."""
        while len(self._window) > _WINDOW * self._options.concurrency and not stop.is_set():
            oldest = self._window[0].task
            if oldest is not None:
                await asyncio.wait([oldest])
            self._advance()

    async def _handle(self, record: EventRecord, tried_later: int = 0) -> None:
        """Bring an event to its end, or put it off; a slot is held.

        Args:
            tried_later: later tries, this one included.
        """
        try:
            given_up = await self._attempt(record, is_final=tried_later >= self._options.retries)
            if given_up is None:
                pass
            elif given_up.reason in TRIED_LATER and tried_later < self._options.retries:
                await self._postpone(record, given_up, tried_later + 1)
                return
            else:
                await self._bury(record, given_up)
            if tried_later:
                await self._kept(record, self._letters.settled, record.event_id)
        finally:
            self._slots.release()
            self._trying.discard(record.event_id)

    async def _attempt(self, record: EventRecord, *, is_final: bool) -> GivenUp | None:
        try:
            work = work_of(record, parse_record(record))
        except BadEvent as error:
            return GivenUp(error.reason, str(error), 0)
        if work is None:
            return None
        return await attempted(self._processor, replace(work, is_final=is_final), self._options)

    async def _bury(self, record: EventRecord, cause: GivenUp) -> None:
        _log.error("event_given_up", event_id=record.event_id, reason=cause.reason)
        await self._kept(record, self._letters.bury, record, cause, time.time())

    async def _postpone(self, record: EventRecord, cause: GivenUp, number: int) -> None:
        seconds = self._options.retry_seconds
        _log.warning(
            "event_postponed", event_id=record.event_id, reason=cause.reason, seconds=seconds
        )
        later = LaterTry(record, number, time.time() + seconds)
        await self._kept(record, self._letters.postpone, later)
        self._note_due(later)

    async def _kept(
        self, record: EventRecord, keep: Callable[..., None], *arguments: object
    ) -> None:
        """Write to the state's folder, however long that takes."""
        while True:
            try:
                await self._threads.run(keep, *arguments)
            except SluiceError as error:
                # Nothing is skipped: the position stays before this event.
                _log.warning("dead_letter_waits", event_id=record.event_id, error=str(error))
                await asyncio.sleep(self._options.retry_cap_seconds)
            else:
                return

    async def _replay(self, group: asyncio.TaskGroup) -> None:
        """Handle what a person wants to be tried again, before anything new."""
        for record in await self._threads.run(self._letters.to_replay):
            task = await self._begin(group, record, asyncio.Event())
            assert task is not None, "nobody sets that event"
            await asyncio.wait([task])
            if task.cancelled():
                return
            await self._threads.run(self._letters.replayed, record.event_id)

    async def _try_due(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        """Begin the later tries that are due, beside what is new."""
        if time.time() < self._next_due:
            return
        self._next_due = math.inf
        for later in await self._threads.run(self._letters.postponed):
            event_id = later.record.event_id
            if event_id in self._trying:
                continue
            if later.due > time.time():
                self._note_due(later)
                return
            self._trying.add(event_id)
            if await self._begin(group, later.record, stop, later.number) is None:
                return

    def _note_due(self, later: LaterTry) -> None:
        self._next_due = min(self._next_due, later.due)

    def _advance(self) -> None:
        """Move on over what is through; what was cancelled is not."""
        while self._window:
            oldest = self._window[0]
            if oldest.task is not None and (not oldest.task.done() or oldest.task.cancelled()):
                return
            self._handled = self._window.popleft().position

    async def _note_down(self, *, at_once: bool = False) -> None:
        """Note now and then how far everything is handled."""
        self._advance()
        self._metrics.processor_lag.labels(_SOURCE).set(len(self._window))
        now = asyncio.get_running_loop().time()
        if self._handled == self._noted or (now - self._noted_at < _NOTE_SECONDS and not at_once):
            return
        await self._threads.run(self._save, self._handled)
        self._noted, self._noted_at = self._handled, now

    async def _rest(self) -> None:
        try:
            until_due = max(0.0, self._next_due - time.time())
            async with asyncio.timeout(
                min(_NOTE_SECONDS if self._window else _POLL_SECONDS, until_due)
            ):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _end_at(self, stop: asyncio.Event) -> None:
        """Wake up at a stop, and cancel what is not through by the end of the drain."""
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
            _log.warning("position_is_damaged", file=str(self._note))
            return BEGINNING  # everything again: what was done is passed over

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
