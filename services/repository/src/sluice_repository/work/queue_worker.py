"""The queue worker: takes an item, handles it and settles it."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from sluice_core.concurrency.waiting import backoff_seconds, wait_at_most
from sluice_core.errors import SluiceError
from sluice_core.ports import Delivery, WorkKind
from sluice_repository.deps import RepositoryDeps
from sluice_repository.work.claims import is_fenced
from sluice_repository.work.guard import guarded, is_transient

_log = structlog.get_logger(__name__)
_SETTLE_SECONDS = 2.0


class WorkHandler(Protocol):
    """The handler of one kind of item."""

    @property
    def role(self) -> str:
        """The role's name in logs and metrics."""
        ...

    @property
    def kind(self) -> WorkKind: ...

    async def handle(self, delivery: Delivery) -> str:
        """Handle the item and return its outcome.

        An item that is already done, gone or permanently failed has an outcome too. Raise to have
        the item retried; release a claim that was taken first.
        """
        ...


class QueueWorker:
    """One of several loops that share a handler.

    Items are hints (rule 15), so settling only decides when the item is tried again: acknowledged
    means "no work now", returned means "retry after the delay". A lost item costs only time,
    because the sweeper re-issues whatever is ready.
    """

    def __init__(self, deps: RepositoryDeps, handler: WorkHandler, name: str) -> None:
        self._deps = deps
        self._handler = handler
        self._kinds = frozenset({handler.kind})
        self._role = handler.role
        self._consumer = f"{deps.holder}/{name}"

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`. On cancellation return the current item for immediate redelivery."""
        failures = 0
        while not stop.is_set():
            with guarded(self._deps.metrics, self._role, consumer=self._consumer) as working:
                await self.work_one(self._deps.options.take_wait_seconds)
            failures = failures + 1 if working.failed else 0
            if working.failed:
                await wait_at_most(stop, self._delay(failures))

    async def work_one(self, wait_seconds: float) -> bool:
        """Take one item and handle it; return False when none came within the wait.

        Raise only what `WorkQueue.take` raises.
        """
        delivery = await self._deps.queue.take(self._kinds, self._consumer, wait_seconds)
        if delivery is None:
            return False
        await self._work(delivery)
        return True

    async def _work(self, delivery: Delivery) -> None:
        log = _log.bind(
            upload_id=delivery.item.upload_id,
            part=delivery.item.part_number,
            kind=delivery.item.kind.value,
            attempt=delivery.attempt,
        )
        retry_seconds: float | None = None
        try:
            outcome = await self._handler.handle(delivery)
        except asyncio.CancelledError:
            await self._settle(delivery, 0.0, log)
            raise
        except Exception as error:
            if is_fenced(error):
                # The current holder of the claim does the rest.
                outcome = "lost"
            else:
                retry_seconds = self._delay(delivery.attempt)
                outcome = "retried" if is_transient(error) else "error"
                if outcome == "retried":
                    log.warning("work.delayed", error=str(error), delay_seconds=retry_seconds)
                else:
                    self._deps.metrics.role_errors.labels(self._role).inc()
                    log.exception("work.failed", delay_seconds=retry_seconds)
        self._deps.metrics.items[delivery.item.kind].labels(outcome).inc()
        await self._settle(delivery, retry_seconds, log)

    def _delay(self, attempt: int) -> float:
        options = self._deps.options
        return backoff_seconds(attempt, options.retry_base_seconds, options.retry_cap_seconds)

    async def _settle(
        self,
        delivery: Delivery,
        retry_seconds: float | None,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                if retry_seconds is None:
                    await self._deps.queue.acknowledge(delivery)
                else:
                    await self._deps.queue.retry(delivery, retry_seconds)
        except (SluiceError, TimeoutError) as error:
            # The delivery's lease runs out and the item is redelivered: handling is idempotent.
            log.warning("delivery.settle_failed", error=str(error))
