"""Work from an SQS queue: what S3, or EventBridge, says of new objects.

- A message stays hidden from others while it is worked on, and is deleted when all of it is done.
- One that cannot be done is left to the queue: it comes again, later each time, until the queue's
  redrive policy moves it to the dead letters. So does one that nobody can read.
- A stop leaves time to what is in hand; what does not end goes back into the queue at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog

from sluice_common.telemetry.metrics import Metrics
from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import SluiceError
from sluice_processor.deps import ProcessorOptions
from sluice_processor.nodes.handler import TRIED_LATER, NodeProcessor, Work
from sluice_processor.sources.attempts import GivenUp, attempted
from sluice_processor.sources.notification_source import count_passed
from sluice_processor.sources.sqs_options import SqsOptions
from sluice_processor.sources.sqs_queue import QueuedMessage, SqsQueue, open_queue
from sluice_processor.sources.store_notifications import BadNotification, parse_notification
from sluice_processor.sources.work import Sorted, sorted_notices

_log = structlog.get_logger(__name__)

SQS: Final = "sqs"
"""What metrics call this source."""
_PAUSE_SECONDS: Final = 2.0
"""After a request that failed."""
_MEASURE_SECONDS: Final = 10.0
_LONGEST_HIDING_SECONDS: Final = 600
_RETURN_SECONDS: Final = 2.0
"""For giving back what a stop has interrupted."""
_BEATS: Final = 3
"""How often a message is hidden anew in the time for which it is hidden: two may be lost."""


class SqsSource:
    """Reads one queue; any number of processes may."""

    def __init__(
        self,
        sqs: SqsOptions,
        processor: NodeProcessor,
        options: ProcessorOptions,
        metrics: Metrics,
    ) -> None:
        self._sqs = sqs
        self._processor = processor
        self._options = options
        self._metrics = metrics
        self._slots = asyncio.Semaphore(options.concurrency)
        self._max_receives: int | None = None
        """Of the queue's redrive policy, as last measured."""

    async def run(self, stop: asyncio.Event) -> None:
        """Process until `stop`. The queue may be away, now and later."""
        async with (
            open_queue(self._sqs, self._options.concurrency) as queue,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._measure(queue, stop))
            in_hand: dict[asyncio.Task[None], QueuedMessage] = {}
            try:
                await self._poll(queue, group, in_hand, stop)
            finally:
                await self._rest(queue, in_hand)

    async def _poll(
        self,
        queue: SqsQueue,
        group: asyncio.TaskGroup,
        in_hand: dict[asyncio.Task[None], QueuedMessage],
        stop: asyncio.Event,
    ) -> None:
        stopping = group.create_task(stop.wait())
        while not stop.is_set():
            free = self._options.concurrency - len(in_hand)
            if free == 0:
                await asyncio.wait([*in_hand, stopping], return_when=asyncio.FIRST_COMPLETED)
                continue
            # Cancelled, it may have messages on their way, which come again in their time.
            receiving = group.create_task(self._receive(queue, free, stop))
            await asyncio.wait([receiving, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                receiving.cancel()
                return
            for message in receiving.result():
                task = group.create_task(self._settle(queue, message))
                in_hand[task] = message
                task.add_done_callback(in_hand.pop)

    async def _receive(
        self, queue: SqsQueue, most: int, stop: asyncio.Event
    ) -> Sequence[QueuedMessage]:
        try:
            return await queue.receive(most)
        except SluiceError as error:
            _log.warning("queue_waits", error=str(error))
            await wait_at_most(stop, _PAUSE_SECONDS)
            return ()

    async def _settle(self, queue: SqsQueue, message: QueuedMessage) -> None:
        """Bring a message to its end, or leave it to the queue."""
        try:
            found = sorted_notices(parse_notification(message.body))
        except BadNotification as error:
            await self._leave(queue, message, "malformed", GivenUp(error.reason, str(error), 0))
            return
        count_passed(self._metrics, SQS, found)
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(self._beat(queue, message))
            given_up = await self._process(found, is_final=self._is_last(message))
            beating.cancel()
        if given_up is not None:
            await self._leave(queue, message, "left", given_up)
            return
        try:
            await queue.delete(message)
        except SluiceError as error:
            # It comes again, and there will be nothing to do.
            _log.warning("message_not_deleted", message_id=message.message_id, error=str(error))
        self._count("handled")

    def _is_last(self, message: QueuedMessage) -> bool:
        """Whether a TIMEOUT is final: the queue buries the message next, or, where it never does,
        there were enough tries."""
        return message.receives >= (self._max_receives or self._options.retries + 1)

    async def _process(self, found: Sorted, *, is_final: bool) -> GivenUp | None:
        """All of a message; the first thing that was given up."""
        works = [replace(work, is_final=is_final) for work in found.works]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._attempted(work)) for work in works]
        return next((one for one in (task.result() for task in tasks) if one is not None), None)

    async def _attempted(self, work: Work) -> GivenUp | None:
        async with self._slots:
            return await attempted(self._processor, work, self._options)

    async def _beat(self, queue: SqsQueue, message: QueuedMessage) -> None:
        while True:
            await asyncio.sleep(self._sqs.visibility_seconds / _BEATS)
            await self._hide(queue, message, self._sqs.visibility_seconds)

    async def _hide(self, queue: SqsQueue, message: QueuedMessage, seconds: int) -> None:
        """That it fails is no harm: the message comes again in its time."""
        try:
            await queue.hide(message, seconds)
        except SluiceError as error:
            _log.warning("message_not_hidden", message_id=message.message_id, error=str(error))

    async def _leave(
        self, queue: SqsQueue, message: QueuedMessage, outcome: str, cause: GivenUp
    ) -> None:
        """Let it come again, in a while that doubles with each time; what ran out of time, when
        the machine may be less busy."""
        seconds = min(_LONGEST_HIDING_SECONDS, 2 ** min(message.receives - 1, 30))
        if cause.reason in TRIED_LATER:
            seconds = math.ceil(self._options.retry_seconds)
        _log.error(
            "message_left_to_queue",
            message_id=message.message_id,
            receives=message.receives,
            reason=cause.reason,
            detail=cause.detail,
            attempts=cause.attempts,
            seconds=seconds,
        )
        self._count(outcome)
        await self._hide(queue, message, seconds)

    async def _rest(
        self, queue: SqsQueue, in_hand: dict[asyncio.Task[None], QueuedMessage]
    ) -> None:
        """What is in hand may end within the drain; the rest is given back."""
        if not in_hand:
            return
        _, late = await asyncio.wait(list(in_hand), timeout=self._options.drain_seconds)
        messages = [in_hand[task] for task in late]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        try:
            async with asyncio.timeout(_RETURN_SECONDS), asyncio.TaskGroup() as group:
                for message in messages:
                    group.create_task(self._hide(queue, message, 0))
        except TimeoutError:
            _log.warning("messages_not_returned", messages=len(messages))

    async def _measure(self, queue: SqsQueue, stop: asyncio.Event) -> None:
        """How many messages wait, now and then; while the queue is away the last figure stands."""
        gauge = self._metrics.processor_lag.labels(SQS)
        warned = False
        while not stop.is_set():
            try:
                facts = await queue.facts()
            except SluiceError as error:
                _log.warning("lag_not_measured", source=SQS, error=str(error))
            else:
                gauge.set(facts.waiting)
                self._max_receives = facts.max_receives
                if not (facts.has_dead_letters or warned):
                    _log.warning("queue_has_no_redrive_policy")
                    warned = True
            await wait_at_most(stop, _MEASURE_SECONDS)

    def _count(self, outcome: str) -> None:
        self._metrics.processor_messages.labels(SQS, outcome).inc()
