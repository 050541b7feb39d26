"""What becomes of one event in a consumer: handled, passed over, or buried; never lost."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import structlog

from sluice_backends.kafka.dead_letters import Cause, DeadLetters
from sluice_backends.kafka.later import Delivery, LaterTries, delivery_of
from sluice_backends.kafka.metrics import KafkaMetrics
from sluice_backends.kafka.receiving import ReceivedEvent, Start
from sluice_core.concurrency.allowance import Allowance
from sluice_core.concurrency.waiting import backoff_seconds, wait_at_most
from sluice_core.errors import SluiceError, Unavailable
from sluice_core.events.registry import BadEvent

_log = structlog.get_logger(__name__)


class Received(Protocol):
    """A message that could be read."""

    @property
    def event_id(self) -> str:
        """By this a repetition is known; empty for what may be handled any number of times."""
        ...

    @property
    def topic(self) -> str: ...


M = TypeVar("M", bound=Received)

Handler = Callable[[ReceivedEvent], Awaitable[None]]
"""Acts on an event. May be called again for one that it has handled. A `SluiceError` that is not
retryable gives the event up at once; any other error is tried again."""


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """What a consumer reads and how hard it tries.

    In memory: a batch per partition that is assigned, at most `batch_events` events each.
    """

    group: str
    topics: tuple[str, ...]
    start: Start = Start.BEGINNING
    """For a group that has committed nothing. LATEST skips what comes before its first commit
    if partitions change hands until then: for looking on, not for work."""
    concurrency: int = 16
    """Handlers that run at once, over all partitions."""
    batch_events: int = 100
    attempts: int = 5
    handling_seconds: float = 25.0
    """All attempts at one event, without time spent in `allowance_paused`; then the partition moves
    on."""
    retry_base_seconds: float = 0.2
    retry_cap_seconds: float = 5.0
    later: LaterTries | None = None
    """What is tried again later before it is given up; by default nothing."""
    drain_seconds: float = 8.0
    """What a stop, or the loss of a partition, leaves to handlers that run."""


class SeenEvents(Protocol):
    """Remembers what has been handled, so that a repetition has no effect.

    Best kept where the handler has its effect, in one transaction with it.
    """

    async def seen(self, event_id: str) -> bool:
        """Whether this event has been handled."""
        ...

    async def handled(self, event_id: str) -> None:
        """The handler has returned; called before the offset is committed."""
        ...


class RecentlySeen:
    """`SeenEvents` in the memory of one process: the last `limit` ids."""

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
        receive: reads a record of the client, which may have so many bytes; raises `BadEvent`.
    """

    def __init__(
        self,
        options: ConsumerOptions,
        receive: Callable[[Any, int], M],
        handler: Callable[[M], Awaitable[None]],
        seen: SeenEvents,
        letters: DeadLetters,
        metrics: KafkaMetrics,
        max_event_bytes: int,
    ) -> None:
        self._options = options
        self._receive = receive
        self._handler = handler
        self._seen = seen
        self._letters = letters
        self._metrics = metrics
        self._max_event_bytes = max_event_bytes
        self._slots = asyncio.Semaphore(options.concurrency)

    async def settle(self, raw: Any, leaving: asyncio.Event) -> bool:
        """Bring a message to its end; False when it has to come again.

        A slot is held while the handler runs, not while an event waits for its next attempt.

        Args:
            leaving: set when the partition is not ours for long any more: begin nothing.
        """
        raw = delivery_of(raw, self._options.topics, self._options.group)
        if raw.due and await wait_at_most(leaving, raw.due - time.time()):
            return False
        try:
            event = self._receive(raw, self._max_event_bytes)
        except BadEvent as error:
            return await self._bury(raw, Cause(error.reason, str(error)), leaving)
        allowance = Allowance(self._options.handling_seconds)
        attempt = 0
        while True:
            async with self._slots:
                if leaving.is_set():
                    return False
                attempt += 1
                failure = await self._attempt(event, allowance, attempt)
            if failure is None:
                return True
            delay = self._delay_seconds(attempt)
            hopeless = isinstance(failure, SluiceError) and not failure.retryable
            if hopeless or attempt >= self._options.attempts or allowance.left_seconds <= delay:
                return await self._give_up(raw, _cause(failure, attempt), leaving)
            self._count(event.topic, "retried")
            if await wait_at_most(leaving, delay):
                return False
            allowance.spend(delay)

    async def _attempt(self, event: M, allowance: Allowance, attempt: int) -> Exception | None:
        """None when it is handled, now or earlier; otherwise why not."""
        event_id = event.event_id
        try:
            async with allowance.spending():
                if event_id and await self._seen.seen(event_id):
                    self._count(event.topic, "repeated")
                    return None
                await self._handler(event)
                if event_id:
                    await self._seen.handled(event_id)
        except Exception as error:  # noqa: BLE001 - whatever a handler does wrong
            _log.warning(
                "event_not_handled",
                event_id=event_id,
                topic=event.topic,
                attempt=attempt,
                exc_info=error,
            )
            return error
        self._count(event.topic, "handled")
        return None

    async def _give_up(self, raw: Delivery, cause: Cause, leaving: asyncio.Event) -> bool:
        """Put a message off, or bury it; False if the partition goes away first."""
        later = self._options.later
        if later is None or cause.reason not in later.reasons or raw.tried_later >= later.tries:
            return await self._bury(raw, cause, leaving)
        due = time.time() + later.seconds
        if not await self._sent(raw, leaving, lambda: self._letters.put_off(raw, due)):
            return False
        self._count(raw.topic, "postponed")
        _log.warning(
            "event_postponed",
            topic=raw.topic,
            partition=raw.partition,
            offset=raw.offset,
            reason=cause.reason,
            seconds=later.seconds,
        )
        return True

    async def _sent(
        self, raw: Delivery, leaving: asyncio.Event, send: Callable[[], Awaitable[None]]
    ) -> bool:
        """Write, however long it takes; False if the partition goes away first."""
        tries = 0
        while True:
            try:
                await send()
            except Unavailable as error:
                tries += 1
                _log.warning(
                    "dead_letter_waits", topic=raw.topic, offset=raw.offset, error=str(error)
                )
                if await wait_at_most(leaving, self._delay_seconds(tries)):
                    return False
            else:
                return True

    async def _bury(self, raw: Delivery, cause: Cause, leaving: asyncio.Event) -> bool:
        """Write a dead letter; False if the partition goes away first."""
        if not await self._sent(raw, leaving, lambda: self._letters.send(raw, cause)):
            return False
        self._count(raw.topic, "dead_letter")
        _log.error(
            "event_given_up",
            topic=raw.topic,
            partition=raw.partition,
            offset=raw.offset,
            reason=cause.reason,
            detail=cause.detail,
            attempts=cause.attempts,
        )
        return True

    def _delay_seconds(self, attempt: int) -> float:
        options = self._options
        return backoff_seconds(attempt, options.retry_base_seconds, options.retry_cap_seconds)

    def _count(self, topic: str, outcome: str) -> None:
        self._metrics.consumed.labels(self._options.group, topic, outcome).inc()


def _cause(error: Exception, attempts: int) -> Cause:
    if isinstance(error, SluiceError):
        return Cause(error.reason, error.operator_message, attempts)
    if isinstance(error, TimeoutError):
        return Cause("HANDLER_TIMEOUT", "the handler took too long", attempts)
    return Cause("HANDLER_FAILED", repr(error), attempts)
