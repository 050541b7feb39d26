"""Shared parts of the notification sources."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from sluice_core.concurrency.allowance import allowance_paused
from sluice_core.errors import SluiceError
from sluice_processor.metrics import ProcessorMetrics
from sluice_processor.nodes.handler import NodeProcessor, Work
from sluice_processor.sources.work import SortedNotices


def count_skipped(metrics: ProcessorMetrics, source: str, found: SortedNotices) -> None:
    """Count the skipped notices of a message, by reason."""
    for reason in found.skipped:
        metrics.passed.labels(source, reason.value).inc()


async def process_all(
    processor: NodeProcessor, found: SortedNotices, slots: asyncio.Semaphore, *, is_final: bool
) -> None:
    """Process all work items of a message concurrently, bounded by `slots`.

    A failure does not cancel the other items. Afterwards raise one of the errors, preferably a
    retryable one, because the message is then worth a retry.
    """
    errors: list[Exception] = []

    async def one(work: Work) -> None:
        with allowance_paused():
            await slots.acquire()
        try:
            await processor.process(replace(work, is_final=is_final))
        except Exception as error:  # noqa: BLE001 - raised below, when all have ended
            errors.append(error)
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        for work in found.works:
            group.create_task(one(work))
    if errors:
        raise min(errors, key=_is_permanent)


def _is_permanent(error: Exception) -> bool:
    return isinstance(error, SluiceError) and not error.retryable
