"""Source of news that follows the event log of a single machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

import structlog

from sluice_backends.disk import DiskThreads
from sluice_backends.log.event_log import BEGINNING, LogPosition, read_events
from sluice_core.concurrency.waiting import backoff_seconds, wait_at_most
from sluice_core.errors import SluiceError
from sluice_core.events.registry import BadEvent, parse_record
from sluice_core.ports.event_publisher import NODES_TOPIC, UPLOADS_TOPIC, EventRecord
from sluice_gateway.metrics import ProjectionMetrics
from sluice_gateway.projection.news import NodeNews, news_of
from sluice_gateway.projection.projector import Projector

TOPICS: Final = (UPLOADS_TOPIC, NODES_TOPIC)

_BATCH: Final = 200
_POLL_SECONDS: Final = 5.0
"""Time between looks at the log without a wake-up."""
_LINGER_SECONDS: Final = 0.05
"""Pause after a batch, so that the next events form one: under load a read costs more than they."""
_RETRY_BASE_SECONDS: Final = 0.2
_RETRY_CAP_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)


class LogSource:
    """Follows the log and applies it in batches.

    The position is in a file and never runs ahead of the work: after a `kill -9` some events are
    applied again, which has no effect. While the catalogue does not answer, a batch is repeated. An
    event that cannot be applied at all is counted and skipped; the sweeper looks at its photo.

    Args:
        events: the folder of the log.
        state: a folder for the position.
        wake: set by the writer of the log.
    """

    def __init__(
        self,
        events: Path,
        state: Path,
        wake: asyncio.Event,
        projector: Projector,
        metrics: ProjectionMetrics,
    ) -> None:
        self._events = events
        self._note = state / "position.json"
        self._wake = wake
        self._projector = projector
        self._metrics = metrics
        self._position = BEGINNING
        self._noted = BEGINNING
        self._is_loaded = False
        self._threads = DiskThreads(
            "projector-log", workers=1, unavailable="PROJECTOR_STATE_UNAVAILABLE"
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Apply events until `stop`; a batch in progress is finished or repeated later."""
        attempt = 0
        try:
            async with asyncio.TaskGroup() as group:
                ender = group.create_task(self._wake_on(stop))
                while not stop.is_set():
                    self._wake.clear()
                    try:
                        if not self._is_loaded:
                            self._position = self._noted = await self._threads.run(self._load)
                            self._is_loaded = True
                        while await self._apply_batch(stop):
                            pass
                        attempt = 0
                    except SluiceError as error:
                        attempt += 1
                        _log.warning("projector.failed", error=str(error), attempt=attempt)
                        delay = backoff_seconds(attempt, _RETRY_BASE_SECONDS, _RETRY_CAP_SECONDS)
                        await wait_at_most(stop, delay)
                        continue
                    if not await wait_at_most(stop, _LINGER_SECONDS):
                        await wait_at_most(self._wake, _POLL_SECONDS)
                ender.cancel()
        finally:
            await self._threads.aclose()

    async def _apply_batch(self, stop: asyncio.Event) -> bool:
        """Apply the next events; return whether there may be more."""
        found: dict[str, list[NodeNews]] = {}
        position, count = self._position, 0
        async with aclosing(read_events(self._events, position)) as events:
            async for event in events:
                position, count = event.position, count + 1
                news = self._news(event.record)
                if news is not None:
                    found.setdefault(news.node_id, []).append(news)
                if count >= _BATCH:
                    break
        self._metrics.behind.set(count)
        # News of one node keep their order, those of different nodes are applied together.
        while found and not stop.is_set():
            await self._apply([news.pop(0) for news in found.values()])
            found = {node_id: news for node_id, news in found.items() if news}
        if found:
            return False
        self._position = position
        self._metrics.behind.set(0)
        if position != self._noted:
            await self._threads.run(self._save, position)
            self._noted = position
        return count >= _BATCH and not stop.is_set()

    async def _apply(self, batch: Sequence[NodeNews]) -> None:
        try:
            await self._projector.project_all(batch)
        except SluiceError as error:
            if error.retryable:
                raise
            await self._apply_apart(batch, error.reason)
        except Exception:  # noqa: BLE001 - a defect here must not end the process
            _log.exception("projector.batch_failed", events=len(batch))
            await self._apply_apart(batch, "DEFECT")

    async def _apply_apart(self, batch: Sequence[NodeNews], reason: str) -> None:
        """Apply the events of a failed batch one by one, and skip the one that cannot be."""
        if len(batch) > 1:
            for news in batch:
                await self._apply([news])
            return
        (news,) = batch
        self._metrics.skipped.labels(reason).inc()
        _log.error("event.skipped", node_id=news.node_id, kind=news.kind.name, reason=reason)

    def _news(self, record: EventRecord) -> NodeNews | None:
        if record.topic not in TOPICS:
            return None
        try:
            return news_of(record, parse_record(record))
        except BadEvent as error:
            self._metrics.skipped.labels(error.reason).inc()
            _log.error("event.skipped", event_id=record.event_id, reason=error.reason)
            return None

    async def _wake_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    def _load(self) -> LogPosition:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return LogPosition(int(note["segment"]), int(note["offset"]))
        except FileNotFoundError:
            return BEGINNING
        except (ValueError, KeyError, TypeError):
            _log.warning("position.read_failed", file=str(self._note))
            return BEGINNING  # apply everything again: what has been applied has no effect

    def _save(self, position: LogPosition) -> None:
        self._note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._note.with_suffix(".new")
        note = {"segment": position.segment, "offset": position.offset}
        draft.write_text(json.dumps(note), encoding="utf-8")
        draft.replace(self._note)
