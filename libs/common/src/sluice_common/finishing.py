"""Steps that, once begun, are carried to their end although the caller has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_the_end(step: Coroutine[Any, Any, T]) -> T:
    """Await `step` to its end even when this task is cancelled meanwhile; then be cancelled.

    For steps that must not stop halfway: a commit whose answer decides what is to be cleaned up,
    or the cleaning itself. The step must be bounded in time by itself. A cancelled task ends as
    cancelled whatever came of the step; a failure of the step is then the cause.
    """
    task = asyncio.ensure_future(step)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as cancellation:
            cancelled = cancellation
        except Exception:  # noqa: BLE001 - `task.result()` below raises it again
            break
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()
