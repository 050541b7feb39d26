"""Running coroutines to completion despite cancellation, and releasing the frames of errors."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def finish_despite_cancel(step: Coroutine[Any, Any, T]) -> T:
    """Run `step` to completion even when this task is cancelled; re-raise the cancellation then.

    For steps that must not stop halfway: a commit whose result decides what to clean up, or the
    clean-up. The step has to bound its own duration. A cancelled task raises `CancelledError`
    whatever the outcome of the step; an error of the step becomes its cause.
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
        # Break the cycle between the raised error and this frame. Otherwise the frames of all
        # callers, and the bytes that they hold, stay until the garbage collector runs.
        del task, cancelled


def forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of `error` and of its causes, so that their frames are freed now.

    For the end of a call, after logging. A traceback references its frames. Where a frame
    references the error (as `TaskGroup` of Python 3.11 does), the cycle keeps all frames and their
    locals, such as the block of a chunk, until the garbage collector runs. The frames themselves
    are not cleared: frames of an error that several tasks await may still be in use.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        current.__traceback__ = None
        current = current.__cause__ or current.__context__
