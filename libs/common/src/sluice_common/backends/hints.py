"""Work queue hints: parts and completions that a step of the ledger made ready."""

from __future__ import annotations

import asyncio

import structlog

from sluice_core.errors import SluiceError
from sluice_core.ports import Acceptance, Completion, WorkItem, WorkKind, WorkQueue

_log = structlog.get_logger(__name__)


async def enqueue_hints(
    queue: WorkQueue,
    upload_id: str,
    tenant: str,
    step: Acceptance | Completion,
    timeout_seconds: float,
) -> None:
    """Queue what the step made ready, best effort.

    Neither a full nor an unavailable queue fails the caller: the sweeper enqueues missing hints
    (rule 15). The wait is short, because `put` waits while the queue is full, and the caller may
    be one of the workers that empty it.
    """
    items = [WorkItem(WorkKind.PART, upload_id, tenant, number) for number in step.ready_parts]
    if step.completion_ready:
        items.append(WorkItem(WorkKind.COMPLETION, upload_id, tenant))
    if not items:
        return
    try:
        async with asyncio.timeout(timeout_seconds):
            for item in items:
                await queue.put(item)
    except TimeoutError:
        _log.warning("queue.full", upload_id=upload_id, hints=len(items))
    except SluiceError as error:
        _log.warning("queue.put_failed", upload_id=upload_id, reason=error.reason)
