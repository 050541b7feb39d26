"""Retries of work items, for sources whose transport has none."""

from __future__ import annotations

import asyncio

import structlog

from sluice_core.concurrency.attempts import Attempts, FinalFailure
from sluice_processor.nodes.handler import NodeProcessor, Work
from sluice_processor.options import ProcessorOptions

_log = structlog.get_logger(__name__)


async def process_with_retries(
    processor: NodeProcessor, work: Work, options: ProcessorOptions
) -> FinalFailure | None:
    """Process a node; retry transient errors with backoff, within the time of the options.

    Return None when the node is done. A permanent error is not retried.
    """
    attempts = Attempts(options)
    while True:
        failure = await _attempt(processor, work, attempts)
        if failure is None:
            return None
        delay = attempts.delay_seconds(failure)
        if delay is None:
            # The text of an unexpected error may quote anything, so only its type is kept.
            return attempts.final_failure(
                failure,
                timeout_detail="The node was not processed in time; replay it later.",
                defect_detail=type(failure).__name__,
            )
        await asyncio.sleep(delay)
        attempts.spend(delay)


async def _attempt(processor: NodeProcessor, work: Work, attempts: Attempts) -> Exception | None:
    try:
        async with attempts.attempt():
            await processor.process(work)
    except Exception as error:  # noqa: BLE001 - one bad node must not stop the others
        _log.warning(
            "node.attempt_failed", node_id=work.node_id, attempt=attempts.count, exc_info=error
        )
        return error
    return None
