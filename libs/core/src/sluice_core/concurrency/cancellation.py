"""What ends ends whole: steps that are carried to their end although the caller has gone, and
errors that keep nothing of where they came through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def finish_despite_cancel(step: Coroutine[Any, Any, T]) -> T:
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
    try:
        if cancelled is not None:
            raise cancelled from (None if task.cancelled() else task.exception())
        return task.result()
    finally:
        # What is raised knows this frame, which must not know it in turn: only the garbage
        # collector would find them, and until then every caller's frame stays, with its bytes.
        del task, cancelled


def forget_frames(error: BaseException) -> None:
    """Let go of the frames that `error`, and what led to it, came through.

    For the end of a call, when all is logged. An error knows its frames through its traceback.
    Where one of them knows the error, as `TaskGroup` of Python 3.11 does, none of them goes before
    the garbage collector comes, and with them stays what they had in hand: the block of a chunk,
    say. The frames themselves are left alone: those of an error that several tasks wait for may
    be in use.
    """
    seen: set[int] = set()
    told: BaseException | None = error
    while told is not None and id(told) not in seen:
        seen.add(id(told))
        told.__traceback__ = None
        told = told.__cause__ or told.__context__
