"""Batching of concurrent calls: a transaction for eight items costs little more than for one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from sluice_core.concurrency.cancellation import finish_despite_cancel
from sluice_core.errors import DeadlineExceeded, SluiceError, Unavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_MAX_BATCH: Final = 64


@dataclass(slots=True, eq=False)
class _Call(Generic[Item, Answer]):
    """A waiting caller; the task that makes the call sets `answer` or `error`."""

    item: Item
    answer: Answer | None = None
    error: Exception | None = None
    done: bool = False


class CallBatcher(Generic[Item, Answer]):
    """Batches calls that arrive while another one is in progress; a lone call is made at once.

    The caller that holds the lock makes the call for all that wait; there is no background task.
    When it is cancelled, the next caller repeats the call for those without an answer, so the
    call must be idempotent, unless calls are to be finished.

    Args:
        call_batch: returns one answer per item, in their order. A permanent error means that it
            did nothing for any of them.
        key: items with the same key are never in the same batch.
        finish: make a call that has begun to its end, though the caller that makes it is
            cancelled; the call has to bound its own duration. No item is then in two calls, unless
            the first one failed permanently.
    """

    def __init__(
        self,
        call_batch: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        key: Callable[[Item], Hashable],
        *,
        finish: bool = False,
    ) -> None:
        self._call_batch = call_batch
        self._finish = finish
        self._key = key
        self._waiting: list[_Call[Item, Answer]] = []
        self._turn = asyncio.Lock()

    async def call(self, item: Item) -> Answer:
        """Return the answer for one item; raise what the call raises.

        After a permanent error the call is repeated item by item, so that each has its own error.
        When a backend does not answer, all that waited when the call began get its error: batch
        after batch, each would wait until its own call has timed out.
        """
        mine: _Call[Item, Answer] = _Call(item)
        self._waiting.append(mine)
        try:
            async with self._turn:
                while not mine.done:
                    making = self._make(self._next(), list(self._waiting))
                    await (finish_despite_cancel(making) if self._finish else making)
        finally:
            self._waiting.remove(mine)
        if mine.error is not None:
            raise mine.error
        return mine.answer  # type: ignore[return-value]  # set: done without an error

    def _next(self) -> list[_Call[Item, Answer]]:
        """Return the oldest waiting calls, at most one per key."""
        found: dict[Hashable, _Call[Item, Answer]] = {}
        for call in self._waiting:
            if not call.done and len(found) < _MAX_BATCH:
                found.setdefault(self._key(call.item), call)
        return list(found.values())

    async def _make(
        self, calls: Sequence[_Call[Item, Answer]], waiting: Sequence[_Call[Item, Answer]]
    ) -> None:
        """Make a batch of the calls that were waiting when it began."""
        try:
            answers = await self._call_batch([call.item for call in calls])
        except Exception as error:  # noqa: BLE001 - raised to the callers
            is_retryable = isinstance(error, SluiceError) and error.retryable
            if len(calls) > 1 and not is_retryable:
                for call in calls:
                    if not call.done:  # a retry of one before it may have failed them all
                        await self._make([call], waiting)
                return
            is_away = isinstance(error, Unavailable | DeadlineExceeded)
            for call in waiting if is_away else calls:
                if not call.done:
                    call.error, call.done = error, True
            return
        for call, answer in zip(calls, answers, strict=True):
            call.answer, call.done = answer, True
