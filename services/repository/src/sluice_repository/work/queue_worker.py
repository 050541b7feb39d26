"""The loop of a queue worker: take an item, handle it under a heartbeat, settle it, never die.

Items are hints (rule 15). Settling therefore only decides when somebody looks again: acknowledged
means "nothing to do now", given back means "look again after the delay". Losing an item costs
time only, for the sweeper re-issues whatever is ready.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog
from prometheus_client import Counter

from sluice_core.concurrency.waiting import backoff_seconds, wait_at_most
from sluice_core.errors import SluiceError
from sluice_core.ports import Delivery, WorkKind
from sluice_repository.deps import RepositoryDeps
from sluice_repository.work.claims import is_fenced
from sluice_repository.work.guard import guarded, is_transient

_log = structlog.get_logger(__name__)
_SETTLE_SECONDS = 2.0


class WorkHandler(Protocol):
    """What one kind of item takes."""

    @property
    def role(self) -> str:
        """What logs and metrics call it."""
        ...

    @property
    def kind(self) -> WorkKind: ...

    @property
    def outcomes(self) -> Counter:
        """Counts items by `outcome`."""
        ...

    async def handle(self, delivery: Delivery) -> str:
        """Do the item and return its outcome, also when it turns out to be done, gone or hopeless.

        Raising means: look again later. A claim that was taken is released before that.
        """
        ...


class QueueWorker:
    """One of several loops that share a handler."""

    def __init__(self, deps: RepositoryDeps, handler: WorkHandler, name: str) -> None:
        self._deps = deps
        self._handler = handler
        self._kinds = frozenset({handler.kind})
        self._role = handler.role
        self._consumer = f"{deps.holder}/{name}"

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; cancelling gives the item in hand back so that it is taken at once."""
        failures = 0
        while not stop.is_set():
            with guarded(self._deps.metrics, self._role, consumer=self._consumer) as working:
                await self.work_one(self._deps.options.take_wait_seconds)
            failures = failures + 1 if working.failed else 0
            if working.failed:
                await wait_at_most(stop, self._delay(failures))

    async def work_one(self, wait_seconds: float) -> bool:
        """Take one item and see it through; False when none came within the wait.

        Raises only what the queue raises when it is asked for an item.
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
        again_after: float | None = None
        try:
            outcome = await self._handler.handle(delivery)
        except asyncio.CancelledError:
            await self._settle(delivery, 0.0, log)
            raise
        except Exception as error:
            if is_fenced(error):
                # Whoever holds the claim now does the rest.
                outcome = "lost"
            else:
                again_after = self._delay(delivery.attempt)
                outcome = "retried" if is_transient(error) else "error"
                if outcome == "retried":
                    log.warning("work_delayed", error=str(error), delay_seconds=again_after)
                else:
                    self._deps.metrics.role_errors.labels(self._role).inc()
                    log.exception("work_failed", delay_seconds=again_after)
        self._handler.outcomes.labels(outcome).inc()
        await self._settle(delivery, again_after, log)

    def _delay(self, attempt: int) -> float:
        options = self._deps.options
        return backoff_seconds(attempt, options.retry_base_seconds, options.retry_cap_seconds)

    async def _settle(
        self,
        delivery: Delivery,
        again_after: float | None,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                if again_after is None:
                    await self._deps.queue.acknowledge(delivery)
                else:
                    await self._deps.queue.retry(delivery, again_after)
        except (SluiceError, TimeoutError) as error:
            # The delivery's lease ends by itself and the item comes again: handling is idempotent.
            log.warning("delivery_not_settled", error=str(error))
