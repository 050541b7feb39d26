"""Reads of a stream that are shielded from the cancellation of their caller."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, MutableMapping
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
P = TypeVar("P")


async def shielded_read(
    reading: Coroutine[Any, Any, T],
    pending: MutableMapping[asyncio.Future[T], P],
    entry: P,
) -> T:
    """Await a read; if the caller is cancelled, run it to completion and drop its outcome.

    grpc.aio frees the memory of a read when its coroutine completes. A cancelled one never does and
    leaks 96 bytes, plus its message (grpcio issue 43360; not fixed in 1.85). Here only the waiting
    is cancelled; the call has ended or is about to, so gRPC completes the read at once.

    Args:
        pending: maps the awaited future to `entry` while the read is pending. Set an exception on
            the future to end the wait.
    """
    # Not `asyncio.shield`: it fails if the wait is ended while the read completes, and reports the
    # error of a read whose caller has left.
    outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(reading)
    task.add_done_callback(partial(_pass_on, outcome))
    pending[outcome] = entry
    try:
        return await outcome
    finally:
        del pending[outcome]


def _pass_on(outcome: asyncio.Future[T], task: asyncio.Task[T]) -> None:
    """Pass on the result of the read, unless its caller has left or was ended."""
    error = None if task.cancelled() else task.exception()
    if outcome.done():
        return
    if task.cancelled():
        outcome.cancel()
    elif error is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())
