"""Trying again, for sources that have nobody else to do it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from sluice_core.concurrency.allowance import Allowance
from sluice_core.concurrency.waiting import backoff_seconds
from sluice_core.errors import SluiceError
from sluice_processor.deps import ProcessorOptions
from sluice_processor.nodes.handler import NodeProcessor, Work

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Why a piece of work was given up. `reason` is stable, the detail for people."""

    reason: str
    detail: str
    attempts: int


async def attempted(
    processor: NodeProcessor, work: Work, options: ProcessorOptions
) -> GivenUp | None:
    """Process a node, again after an error that may pass, within the time of the options.

    None when it is done. An error that is not retryable gives up at once.
    """
    allowance = Allowance(options.handling_seconds)
    attempt = 0
    while True:
        attempt += 1
        failure = await _attempt(processor, work, allowance, attempt)
        if failure is None:
            return None
        delay = backoff_seconds(attempt, options.retry_base_seconds, options.retry_cap_seconds)
        hopeless = isinstance(failure, SluiceError) and not failure.retryable
        if hopeless or attempt >= options.attempts or allowance.left_seconds <= delay:
            return _given_up(failure, attempt)
        await asyncio.sleep(delay)
        allowance.spend(delay)


async def _attempt(
    processor: NodeProcessor, work: Work, allowance: Allowance, attempt: int
) -> Exception | None:
    try:
        async with allowance.spending():
            await processor.process(work)
    except Exception as error:  # noqa: BLE001 - one bad node must not stop the others
        _log.warning("node_not_processed", node_id=work.node_id, attempt=attempt, exc_info=error)
        return error
    return None


def _given_up(error: Exception, attempts: int) -> GivenUp:
    if isinstance(error, SluiceError):
        return GivenUp(error.reason, error.operator_message, attempts)
    if isinstance(error, TimeoutError):
        return GivenUp("HANDLER_TIMEOUT", "The node took too long.", attempts)
    # The text of an unexpected error may quote anything.
    return GivenUp("HANDLER_FAILED", type(error).__name__, attempts)
