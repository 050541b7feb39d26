"""Retries of work items, for sources whose transport has none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from sluice_core.concurrency.allowance import Allowance
from sluice_core.concurrency.waiting import backoff_seconds
from sluice_core.errors import SluiceError
from sluice_processor.nodes.handler import NodeProcessor, Work
from sluice_processor.options import ProcessorOptions

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FinalFailure:
    """Why a work item failed for good. `reason` is stable; `detail` is for people."""

    reason: str
    detail: str
    attempts: int


async def process_with_retries(
    processor: NodeProcessor, work: Work, options: ProcessorOptions
) -> FinalFailure | None:
    """Process a node; retry transient errors with backoff, within the time of the options.

    Return None when the node is done. A permanent error is not retried.
    """
    allowance = Allowance(options.handling_seconds)
    attempt = 0
    while True:
        attempt += 1
        failure = await _attempt(processor, work, allowance, attempt)
        if failure is None:
            return None
        delay = backoff_seconds(attempt, options.retry_base_seconds, options.retry_cap_seconds)
        is_permanent = isinstance(failure, SluiceError) and not failure.retryable
        if is_permanent or attempt >= options.attempts or allowance.left_seconds <= delay:
            return _final_failure(failure, attempt)
        await asyncio.sleep(delay)
        allowance.spend(delay)


async def _attempt(
    processor: NodeProcessor, work: Work, allowance: Allowance, attempt: int
) -> Exception | None:
    try:
        async with allowance.spending():
            await processor.process(work)
    except Exception as error:  # noqa: BLE001 - one bad node must not stop the others
        _log.warning("node.attempt_failed", node_id=work.node_id, attempt=attempt, exc_info=error)
        return error
    return None


def _final_failure(error: Exception, attempts: int) -> FinalFailure:
    if isinstance(error, SluiceError):
        return FinalFailure(error.reason, error.operator_message, attempts)
    if isinstance(error, TimeoutError):
        return FinalFailure(
            "HANDLER_TIMEOUT",
            "The node was not processed in time; replay it later.",
            attempts,
        )
    # The text of an unexpected error may quote anything, so only its type is kept.
    return FinalFailure("HANDLER_FAILED", type(error).__name__, attempts)
