"""Batched calls: each caller gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sluice_core.concurrency.batching import CallBatcher
from sluice_core.errors import Aborted, Unavailable


class Doubling:
    """Batch call that doubles numbers and fails for negative ones."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.away = False
        self.conflicts = False
        self.gathering: CallBatcher[int, int] = CallBatcher(self._double, lambda item: item)
        self.finishing: CallBatcher[int, int] = CallBatcher(
            self._double, lambda item: item, finish=True
        )

    async def _double(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        self.begun.set()
        await asyncio.sleep(0.01)
        await self.open.wait()
        if self.away:
            raise Unavailable("AWAY", "…")
        if self.conflicts:
            raise Aborted("CONFLICT", "…")
        if any(item < 0 for item in items):
            raise ValueError(min(items))
        return [2 * item for item in items]

    async def together(self, *items: int) -> list[int | BaseException]:
        calls = (self.gathering.call(item) for item in items)
        return await asyncio.gather(*calls, return_exceptions=True)


@pytest.fixture
def doubling() -> Doubling:
    return Doubling()


async def test_calls_during_a_call_are_batched(doubling: Doubling) -> None:
    assert await doubling.together(1, 2, 3, 4) == [2, 4, 6, 8]
    assert doubling.calls == [[1], [2, 3, 4]]
    assert await doubling.gathering.call(5) == 10
    assert doubling.calls[-1] == [5]


async def test_batch_has_each_key_once(doubling: Doubling) -> None:
    assert await doubling.together(1, 7, 7, 7) == [2, 14, 14, 14]
    assert all(len(set(call)) == len(call) for call in doubling.calls)
    assert sum(call.count(7) for call in doubling.calls) == 3


async def test_batch_size_is_bounded(doubling: Doubling) -> None:
    assert await doubling.together(*range(200)) == [2 * item for item in range(200)]
    assert max(len(call) for call in doubling.calls) <= 64


async def test_permanent_error_fails_only_its_item(doubling: Doubling) -> None:
    one, poison, other = await doubling.together(1, -1, 2)
    assert (one, other) == (2, 4)
    assert isinstance(poison, ValueError)


async def test_conflict_fails_whole_batch_and_no_other(doubling: Doubling) -> None:
    doubling.conflicts = True
    answers = await doubling.together(1, 2, 3, 3)
    assert all(isinstance(answer, Aborted) for answer in answers)
    assert doubling.calls == [[1], [2, 3], [3]]
    doubling.conflicts = False
    assert await doubling.together(1, 2) == [2, 4]


async def test_backend_that_is_away_fails_all_that_waited_for_it(doubling: Doubling) -> None:
    """Not batch after batch: each would wait for a time-out of its own."""
    doubling.away = True
    answers = await doubling.together(*range(200))
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert doubling.calls == [[0], list(range(1, 65))]
    doubling.away = False
    assert await doubling.together(1, 2) == [2, 4]


async def test_later_callers_ask_a_backend_again(doubling: Doubling) -> None:
    doubling.open.clear()
    doubling.away = True
    first = asyncio.create_task(doubling.gathering.call(1))
    await doubling.begun.wait()
    later = asyncio.create_task(doubling.gathering.call(2))
    await asyncio.sleep(0)
    doubling.open.set()
    with pytest.raises(Unavailable):
        await first
    doubling.away = False
    assert await later == 4


async def test_begun_call_is_finished_for_a_cancelled_caller(doubling: Doubling) -> None:
    """So that what is not idempotent is done once for each item."""
    doubling.open.clear()
    first = asyncio.create_task(doubling.finishing.call(0))
    await doubling.begun.wait()
    others = [asyncio.create_task(doubling.finishing.call(item)) for item in range(1, 5)]
    await asyncio.sleep(0)
    doubling.begun.clear()
    doubling.open.set()
    assert await first == 0
    doubling.open.clear()
    await doubling.begun.wait()
    others[0].cancel()  # it makes the call for all four
    await asyncio.sleep(0)
    doubling.open.set()
    answers = await asyncio.gather(*others, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [4, 6, 8]
    assert doubling.calls == [[0], [1, 2, 3, 4]]


async def test_cancelled_caller_leaves_others_their_answers(doubling: Doubling) -> None:
    doubling.open.clear()
    tasks = [asyncio.create_task(doubling.gathering.call(item)) for item in range(5)]
    for leaving in tasks[:2]:
        await asyncio.sleep(0.01)
        leaving.cancel()
    await asyncio.sleep(0.01)
    doubling.open.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers[:2]] == [asyncio.CancelledError] * 2
    assert answers[2:] == [4, 6, 8]
    assert await doubling.gathering.call(9) == 18
    assert doubling.calls[-1] == [9]
