"""Batching of concurrent calls: a transaction for eight items costs little more than for one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from sluice_core.errors import SluiceError

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
    call must be idempotent.

    Args:
        call_batch: returns one answer per item, in their order.
        key: items with the same key are never in the same batch.
    """

    def __init__(
        self,
        call_batch: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        key: Callable[[Item], Hashable],
    ) -> None:
        self._call_batch = call_batch
        self._key = key
        self._waiting: list[_Call[Item, Answer]] = []
        self._turn = asyncio.Lock()

    async def call(self, item: Item) -> Answer:
        """Return the answer for one item; raise what the call raises.

        After a permanent error the call is repeated item by item, so that each has its own error.
        """
        mine: _Call[Item, Answer] = _Call(item)
        self._waiting.append(mine)
        try:
            async with self._turn:
                while not mine.done:
                    await self._make(self._next())
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

    async def _make(self, calls: Sequence[_Call[Item, Answer]]) -> None:
        try:
            answers = await self._call_batch([call.item for call in calls])
        except Exception as error:  # noqa: BLE001 - raised to the callers
            is_retryable = isinstance(error, SluiceError) and error.retryable
            if len(calls) > 1 and not is_retryable:
                for call in calls:
                    await self._make([call])
                return
            for call in calls:
                call.error, call.done = error, True
            return
        for call, answer in zip(calls, answers, strict=True):
            call.answer, call.done = answer, True
