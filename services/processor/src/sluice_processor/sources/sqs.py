"""SQS source: notifications of S3 or EventBridge about new objects."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog

from sluice_backends.sqs.options import SqsOptions
from sluice_backends.sqs.queue import QueuedMessage, SqsQueue, open_queue
from sluice_core.concurrency.attempts import FinalFailure
from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import SluiceError
from sluice_processor.metrics import ProcessorMetrics
from sluice_processor.nodes.handler import RETRY_LATER_REASONS, NodeProcessor, Work
from sluice_processor.options import ProcessorOptions
from sluice_processor.sources.attempts import process_with_retries
from sluice_processor.sources.notification_source import count_skipped
from sluice_processor.sources.store_notifications import BadNotification, parse_notification
from sluice_processor.sources.work import SortedNotices, sort_notices

_log = structlog.get_logger(__name__)

SQS: Final = "sqs"
"""Name of this source in the metrics."""
_PAUSE_SECONDS: Final = 2.0
"""Pause after a failed request."""
_MEASURE_SECONDS: Final = 10.0
_MAX_HIDE_SECONDS: Final = 600
_RETURN_SECONDS: Final = 2.0
"""Time limit for returning interrupted messages at a stop."""
_EXTENSIONS: Final = 3
"""Extensions per visibility timeout, so that two may be lost."""


class SqsSource:
    """Reads one queue; any number of processes may read the same one.

    - A message is hidden from others while it is processed, and deleted when all of it is done.
    - A message that fails, or cannot be parsed, is left to the queue with a growing delay until
      the redrive policy of the queue moves it to the dead letters.
    - At a stop, messages in progress have the drain time; unfinished ones are returned at once.
    """

    def __init__(
        self,
        sqs: SqsOptions,
        processor: NodeProcessor,
        options: ProcessorOptions,
        metrics: ProcessorMetrics,
    ) -> None:
        self._sqs = sqs
        self._processor = processor
        self._options = options
        self._metrics = metrics
        self._slots = asyncio.Semaphore(options.concurrency)
        self._max_receives: int | None = None
        """From the redrive policy of the queue, as last read."""

    async def run(self, stop: asyncio.Event) -> None:
        """Process messages until `stop`; the queue may be unavailable at any time."""
        async with (
            open_queue(self._sqs, self._options.concurrency) as queue,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self._measure(queue, stop))
            in_progress: dict[asyncio.Task[None], QueuedMessage] = {}
            try:
                await self._poll(queue, group, in_progress, stop)
            finally:
                await self._drain(queue, in_progress)

    async def _poll(
        self,
        queue: SqsQueue,
        group: asyncio.TaskGroup,
        in_progress: dict[asyncio.Task[None], QueuedMessage],
        stop: asyncio.Event,
    ) -> None:
        stopping = group.create_task(stop.wait())
        while not stop.is_set():
            free = self._options.concurrency - len(in_progress)
            if free == 0:
                await asyncio.wait([*in_progress, stopping], return_when=asyncio.FIRST_COMPLETED)
                continue
            # A cancelled receive may lose messages in transit; they reappear after their timeout.
            receiving = group.create_task(self._receive(queue, free, stop))
            await asyncio.wait([receiving, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                receiving.cancel()
                return
            for message in receiving.result():
                task = group.create_task(self._settle(queue, message))
                in_progress[task] = message
                task.add_done_callback(in_progress.pop)

    async def _receive(
        self, queue: SqsQueue, most: int, stop: asyncio.Event
    ) -> Sequence[QueuedMessage]:
        try:
            return await queue.receive(most)
        except SluiceError as error:
            _log.warning("queue.receive_failed", error=str(error))
            await wait_at_most(stop, _PAUSE_SECONDS)
            return ()

    async def _settle(self, queue: SqsQueue, message: QueuedMessage) -> None:
        """Process and delete a message, or leave it to the queue."""
        try:
            found = sort_notices(parse_notification(message.body))
        except BadNotification as error:
            await self._leave(
                queue, message, "malformed", FinalFailure(error.reason, str(error), 0)
            )
            return
        count_skipped(self._metrics, SQS, found)
        async with asyncio.TaskGroup() as group:
            extending = group.create_task(self._extend_visibility(queue, message))
            failure = await self._process(found, is_final=self._is_last(message))
            extending.cancel()
        if failure is not None:
            await self._leave(queue, message, "left", failure)
            return
        try:
            await queue.delete(message)
        except SluiceError as error:
            # It is delivered again and will be a no-op.
            _log.warning("message.delete_failed", message_id=message.message_id, error=str(error))
        self._count("handled")

    def _is_last(self, message: QueuedMessage) -> bool:
        """Return whether a TIMEOUT is final.

        It is if the redrive policy takes the message next, or, without one, after all retries.
        """
        return message.receives >= (self._max_receives or self._options.retries + 1)

    async def _process(self, found: SortedNotices, *, is_final: bool) -> FinalFailure | None:
        """Process all work items of a message; return the first final failure."""
        works = [replace(work, is_final=is_final) for work in found.works]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._process_work(work)) for work in works]
        return next((one for one in (task.result() for task in tasks) if one is not None), None)

    async def _process_work(self, work: Work) -> FinalFailure | None:
        async with self._slots:
            return await process_with_retries(self._processor, work, self._options)

    async def _extend_visibility(self, queue: SqsQueue, message: QueuedMessage) -> None:
        while True:
            await asyncio.sleep(self._sqs.visibility_seconds / _EXTENSIONS)
            await self._hide(queue, message, self._sqs.visibility_seconds)

    async def _hide(self, queue: SqsQueue, message: QueuedMessage, seconds: int) -> None:
        """Set the visibility timeout, best effort: on failure the current timeout applies."""
        try:
            await queue.hide(message, seconds)
        except SluiceError as error:
            _log.warning("message.hide_failed", message_id=message.message_id, error=str(error))

    async def _leave(
        self, queue: SqsQueue, message: QueuedMessage, outcome: str, cause: FinalFailure
    ) -> None:
        """Leave a message to the queue, with exponential backoff.

        One that ran out of time comes back after `retry_seconds`, when the load may be lower.
        """
        seconds = min(_MAX_HIDE_SECONDS, 2 ** min(message.receives - 1, 30))
        if cause.reason in RETRY_LATER_REASONS:
            seconds = math.ceil(self._options.retry_seconds)
        _log.error(
            "message.processing_failed",
            message_id=message.message_id,
            receives=message.receives,
            reason=cause.reason,
            detail=cause.detail,
            attempts=cause.attempts,
            seconds=seconds,
        )
        self._count(outcome)
        await self._hide(queue, message, seconds)

    async def _drain(
        self, queue: SqsQueue, in_progress: dict[asyncio.Task[None], QueuedMessage]
    ) -> None:
        """Let messages in progress finish within the drain time; return the others."""
        if not in_progress:
            return
        _, late = await asyncio.wait(list(in_progress), timeout=self._options.drain_seconds)
        messages = [in_progress[task] for task in late]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        try:
            async with asyncio.timeout(_RETURN_SECONDS), asyncio.TaskGroup() as group:
                for message in messages:
                    group.create_task(self._hide(queue, message, 0))
        except TimeoutError:
            _log.warning("messages.return_failed", messages=len(messages))

    async def _measure(self, queue: SqsQueue, stop: asyncio.Event) -> None:
        """Measure the queue periodically; while it is unavailable the last value stays."""
        gauge = self._metrics.lag.labels(SQS)
        warned = False
        while not stop.is_set():
            try:
                facts = await queue.facts()
            except SluiceError as error:
                _log.warning("lag.measurement_failed", source=SQS, error=str(error))
            else:
                gauge.set(facts.waiting)
                self._max_receives = facts.max_receives
                if not (facts.has_dead_letters or warned):
                    _log.warning("queue.redrive_policy_missing")
                    warned = True
            await wait_at_most(stop, _MEASURE_SECONDS)

    def _count(self, outcome: str) -> None:
        self._metrics.messages.labels(SQS, outcome).inc()
