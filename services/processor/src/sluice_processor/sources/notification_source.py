"""What the sources that are told of objects do alike."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from sluice_common.telemetry.metrics import Metrics
from sluice_core.concurrency.allowance import allowance_paused
from sluice_core.errors import SluiceError
from sluice_processor.nodes.handler import NodeProcessor, Work
from sluice_processor.sources.work import Sorted


def count_passed(metrics: Metrics, source: str, found: Sorted) -> None:
    """Say which notices of a message were passed over."""
    for reason in found.passed:
        metrics.processor_passed.labels(source, reason.value).inc()


async def process_all(
    processor: NodeProcessor, found: Sorted, slots: asyncio.Semaphore, *, is_final: bool
) -> None:
    """Everything that a message asks for, side by side, as far as there are slots.

    Nothing is left out because something else failed. Raises one of the errors: one that may pass,
    if there is one, for then the message is worth another try.
    """
    errors: list[Exception] = []

    async def one(work: Work) -> None:
        with allowance_paused():
            await slots.acquire()
        try:
            await processor.process(replace(work, is_final=is_final))
        except Exception as error:  # noqa: BLE001 - raised below, when all have had their turn
            errors.append(error)
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        for work in found.works:
            group.create_task(one(work))
    if errors:
        raise min(errors, key=_is_hopeless)


def _is_hopeless(error: Exception) -> bool:
    return isinstance(error, SluiceError) and not error.retryable
