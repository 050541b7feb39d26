"""Handling of one message: handled, retried, postponed or written to the dead letters."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import structlog

from sluice_backends.kafka.dead_letters import DeadLetters
from sluice_backends.kafka.metrics import ConsumerMetrics
from sluice_backends.kafka.receiving import ReceivedEvent, Start
from sluice_backends.kafka.retry_topics import DelayedRetries, Delivery, delivery_of
from sluice_core.concurrency.attempts import Attempts, FinalFailure
from sluice_core.concurrency.waiting import backoff_seconds, wait_at_most
from sluice_core.errors import Unavailable
from sluice_core.events.registry import BadEvent

_log = structlog.get_logger(__name__)


class Received(Protocol):
    """Parsed message."""

    @property
    def event_id(self) -> str:
        """Id for deduplication; empty for a message that may be handled any number of times."""
        ...

    @property
    def topic(self) -> str: ...


M = TypeVar("M", bound=Received)

Handler = Callable[[ReceivedEvent], Awaitable[None]]
"""Acts on an event, at least once. A `SluiceError` that is not retryable makes the event a dead
letter at once; any other error is retried."""


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """Topics and retry policy of a consumer.

    Memory: one batch of at most `batch_events` events per assigned partition.
    """

    group: str
    topics: tuple[str, ...]
    start: Start = Start.BEGINNING
    """Start of a group without a committed offset. With LATEST, a rebalance before the first
    commit skips events: use it to observe, not to process."""
    concurrency: int = 16
    """Most handlers that run at once, over all partitions."""
    batch_events: int = 100
    attempts: int = 5
    handling_seconds: float = 25.0
    """All attempts at one event, without time spent in `allowance_paused`; then the partition moves
    on."""
    retry_base_seconds: float = 0.2
    retry_cap_seconds: float = 5.0
    delayed_retries: DelayedRetries | None = None
    """Delayed retries before an event becomes a dead letter; by default none."""
    drain_seconds: float = 8.0
    """Time that running handlers get at a stop or when their partition is revoked."""


class SeenEvents(Protocol):
    """Record of handled events; makes a redelivered event a no-op.

    Best stored in the same transaction as the handler's effect.
    """

    async def seen(self, event_id: str) -> bool:
        """Return whether this event has been handled."""
        ...

    async def handled(self, event_id: str) -> None:
        """Record that the handler has returned; called before the offset is committed."""
        ...


class RecentlySeen:
    """`SeenEvents` in the memory of one process: the latest `limit` ids."""

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._ids: OrderedDict[str, None] = OrderedDict()

    async def seen(self, event_id: str) -> bool:
        return event_id in self._ids

    async def handled(self, event_id: str) -> None:
        self._ids[event_id] = None
        while len(self._ids) > self._limit:
            self._ids.popitem(last=False)


class Handling(Generic[M]):
    """Settles the messages of one consumer group.

    Args:
        receive: parses a record of at most this many bytes; raises `BadEvent`.
    """

    def __init__(
        self,
        options: ConsumerOptions,
        receive: Callable[[Any, int], M],
        handler: Callable[[M], Awaitable[None]],
        seen: SeenEvents,
        letters: DeadLetters,
        metrics: ConsumerMetrics,
        max_event_bytes: int,
    ) -> None:
        self._options = options
        self._receive = receive
        self._handler = handler
        self._seen = seen
        self._letters = letters
        self._metrics = metrics
        # A series that begins with its first letter has no increase that an alert could see.
        self._dead_letters = metrics.dead_letters.labels(options.group)
        self._max_event_bytes = max_event_bytes
        self._slots = asyncio.Semaphore(options.concurrency)

    async def settle(self, raw: Any, revoked: asyncio.Event) -> bool:
        """Handle, postpone or bury a message; return False if it must be redelivered.

        A slot is held while the handler runs, not while an event waits for its next attempt.

        Args:
            revoked: set before the partition is revoked or the consumer stops; then nothing starts.
        """
        raw = delivery_of(raw, self._options.topics, self._options.group)
        if raw.due and await wait_at_most(revoked, raw.due - time.time()):
            return False
        try:
            event = self._receive(raw, self._max_event_bytes)
        except BadEvent as error:
            return await self._bury(raw, FinalFailure(error.reason, str(error)), revoked)
        attempts = Attempts(self._options)
        while True:
            async with self._slots:
                if revoked.is_set():
                    return False
                failure = await self._attempt(event, attempts)
            if failure is None:
                return True
            delay = attempts.delay_seconds(failure)
            if delay is None:
                cause = attempts.final_failure(
                    failure, timeout_detail="the handler took too long", defect_detail=repr(failure)
                )
                return await self._postpone_or_bury(raw, cause, revoked)
            self._count(event.topic, "retried")
            if await wait_at_most(revoked, delay):
                return False
            attempts.spend(delay)

    async def _attempt(self, event: M, attempts: Attempts) -> Exception | None:
        """Return None if the event is handled, now or earlier; otherwise the handler's error."""
        event_id = event.event_id
        try:
            async with attempts.attempt():
                if event_id and await self._seen.seen(event_id):
                    self._count(event.topic, "repeated")
                    return None
                await self._handler(event)
                if event_id:
                    await self._seen.handled(event_id)
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            _log.warning(
                "event.handling_failed",
                event_id=event_id,
                topic=event.topic,
                attempt=attempts.count,
                exc_info=error,
            )
            return error
        self._count(event.topic, "handled")
        return None

    async def _postpone_or_bury(
        self, raw: Delivery, cause: FinalFailure, revoked: asyncio.Event
    ) -> bool:
        """Postpone a message or bury it; return False if the partition is revoked first."""
        retries = self._options.delayed_retries
        if (
            retries is None
            or cause.reason not in retries.reasons
            or raw.retry_number >= retries.limit
        ):
            return await self._bury(raw, cause, revoked)
        due = time.time() + retries.delay_seconds
        if not await self._send(raw, revoked, lambda: self._letters.postpone(raw, due)):
            return False
        self._count(raw.topic, "postponed")
        _log.warning(
            "event.postponed",
            topic=raw.topic,
            partition=raw.partition,
            offset=raw.offset,
            reason=cause.reason,
            seconds=retries.delay_seconds,
        )
        return True

    async def _send(
        self, raw: Delivery, revoked: asyncio.Event, send: Callable[[], Awaitable[None]]
    ) -> bool:
        """Retry `send` until it succeeds; return False if the partition is revoked first."""
        attempts = 0
        while True:
            try:
                await send()
            except Unavailable as error:
                attempts += 1
                _log.warning(
                    "dead_letter.write_failed", topic=raw.topic, offset=raw.offset, error=str(error)
                )
                base, cap = self._options.retry_base_seconds, self._options.retry_cap_seconds
                if await wait_at_most(revoked, backoff_seconds(attempts, base, cap)):
                    return False
            else:
                return True

    async def _bury(self, raw: Delivery, cause: FinalFailure, revoked: asyncio.Event) -> bool:
        """Write a dead letter; return False if the partition is revoked first."""
        if not await self._send(raw, revoked, lambda: self._letters.send(raw, cause)):
            return False
        self._count(raw.topic, "dead_letter")
        self._dead_letters.inc()
        _log.error(
            "event.dead_lettered",
            topic=raw.topic,
            partition=raw.partition,
            offset=raw.offset,
            reason=cause.reason,
            detail=cause.detail,
            attempts=cause.attempts,
        )
        return True

    def _count(self, topic: str, outcome: str) -> None:
        self._metrics.consumed.labels(self._options.group, topic, outcome).inc()
