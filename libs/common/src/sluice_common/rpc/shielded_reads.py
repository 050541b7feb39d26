"""Reads of a stream that are shielded from the cancellation of their caller."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, MutableMapping
from contextlib import suppress
from typing import Any, Generic, TypeVar

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

    Equivalent to `asyncio.shield` in 2 µs instead of 6, without a task: every block of every chunk
    takes this path. The read must therefore not use the current task.

    Args:
        pending: maps the awaited future to `entry` while the read is pending. Set an exception on
            the future to end the wait.
    """
    try:
        awaited = reading.send(None)
    except StopIteration as read:
        outcome: T = read.value
        return outcome
    rest = _ShieldedRead(reading, awaited).outcome
    pending[rest] = entry
    try:
        return await rest
    finally:
        del pending[rest]


class _ShieldedRead(Generic[T]):
    """Drives the rest of a read that has to wait, from callbacks of the futures it awaits."""

    __slots__ = ("_reading", "outcome")

    def __init__(self, reading: Coroutine[Any, Any, T], awaited: asyncio.Future[Any]) -> None:
        self._reading = reading
        self.outcome: asyncio.Future[T] = awaited.get_loop().create_future()
        self._await(awaited)

    def _await(self, awaited: asyncio.Future[Any]) -> None:
        # Acknowledge the future, as a task does.
        awaited._asyncio_future_blocking = False
        awaited.add_done_callback(self._resume)

    def _resume(self, _: asyncio.Future[Any]) -> None:
        # The outcome is done if its awaiter was cancelled.
        with suppress(asyncio.InvalidStateError):
            try:
                awaited = self._reading.send(None)
            except StopIteration as read:
                self.outcome.set_result(read.value)
            except asyncio.CancelledError:
                self.outcome.cancel()
            except Exception as error:  # noqa: BLE001 - a callback: raised to the awaiter
                self.outcome.set_exception(error)
            else:
                self._await(awaited)
