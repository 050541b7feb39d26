"""Calls that are made together: a transaction for eight costs little more than one for one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from sluice_core.errors import SluiceError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_MAX_TOGETHER: Final = 64


@dataclass(slots=True, eq=False)
class _Call(Generic[Item, Answer]):
    """Somebody who waits; `answer` and `error` are set by whoever makes the call."""

    item: Item
    answer: Answer | None = None
    error: Exception | None = None
    done: bool = False


class Gathering(Generic[Item, Answer]):
    """Makes calls together that come in while another is under way; a lone one goes at once.

    Whoever has its turn makes the call for all who wait. No task runs in the background: when the
    one at its turn is cancelled, the next one makes the call, again for those that had no answer;
    so it has to be idempotent.

    Args:
        together: one answer for each item, in their order.
        key: items with the same key are never in one call.
    """

    def __init__(
        self,
        together: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        key: Callable[[Item], Hashable],
    ) -> None:
        self._together = together
        self._key = key
        self._waiting: list[_Call[Item, Answer]] = []
        self._turn = asyncio.Lock()

    async def call(self, item: Item) -> Answer:
        """The answer for one item; raises what the call raises.

        An error that may not pass is asked for item by item, so that each has its own.
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
        return mine.answer  # type: ignore[return-value]  # set, for it is done and no error

    def _next(self) -> list[_Call[Item, Answer]]:
        """The oldest that wait, each key once."""
        found: dict[Hashable, _Call[Item, Answer]] = {}
        for call in self._waiting:
            if not call.done and len(found) < _MAX_TOGETHER:
                found.setdefault(self._key(call.item), call)
        return list(found.values())

    async def _make(self, calls: Sequence[_Call[Item, Answer]]) -> None:
        try:
            answers = await self._together([call.item for call in calls])
        except Exception as error:  # noqa: BLE001 - it belongs to those who asked
            may_pass = isinstance(error, SluiceError) and error.retryable
            if len(calls) > 1 and not may_pass:
                for call in calls:
                    await self._make([call])
                return
            for call in calls:
                call.error, call.done = error, True
            return
        for call, answer in zip(calls, answers, strict=True):
            call.answer, call.done = answer, True
