"""Two or more that meet at one place: every order of their steps, or all of them at once.

What a race can do is a matter of order, so the orders are played one by one instead of hoping for
the right one: an actor is an async generator that yields wherever another may come in between, or a
coroutine when nothing can.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from itertools import permutations
from typing import Any, TypeVar

from sluice_core.errors import SluiceError

T = TypeVar("T")

Actor = AsyncGenerator[None, None]
Order = tuple[int, ...]


def orders(*steps: int) -> list[Order]:
    """Every order in which actors of so many steps each can take their turns.

    An actor that yields n times has n + 1 steps; a coroutine has one.
    """
    turns = [actor for actor, count in enumerate(steps) for _ in range(count)]
    return sorted(set(permutations(turns)))


async def play(order: Order, *actors: Actor | Coroutine[Any, Any, object]) -> None:
    """Let the actors take their turns in this order, each to its end."""
    going = set(range(len(actors)))
    try:
        for turn in order:
            assert turn in going, f"actor {turn} has fewer steps than the order says"
            actor = actors[turn]
            if isinstance(actor, Coroutine):
                await actor
                going.remove(turn)
                continue
            try:
                await anext(actor)
            except StopAsyncIteration:
                going.remove(turn)
        assert not going, f"actors {going} have more steps than the order says"
    finally:
        for actor in actors:
            if isinstance(actor, Coroutine):
                actor.close()
            else:
                await actor.aclose()


@contextmanager
def noting_order(order: Order | Sequence[str]) -> Iterator[None]:
    """A failure inside names the order that led to it."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the order {order}")
        raise


async def outcome(call: Awaitable[T]) -> T | SluiceError:
    """The answer, or the refusal."""
    try:
        return await call
    except SluiceError as refused:
        return refused


def reason(answer: object) -> str:
    """Why it was refused; fails the test when it was not."""
    assert isinstance(answer, SluiceError), answer
    return answer.reason


async def at_once(*calls: Awaitable[T]) -> list[T | SluiceError]:
    """Answers and refusals of calls that nobody makes before all are about to."""
    barrier = asyncio.Barrier(len(calls))

    async def one(call: Awaitable[T]) -> T | SluiceError:
        await barrier.wait()
        return await outcome(call)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(call)) for call in calls]
    return [task.result() for task in tasks]
