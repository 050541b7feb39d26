"""Forced races: every interleaving of several actors' steps, or all calls at once."""

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
    """Return every interleaving of actors with these numbers of steps.

    The outcome of a race depends on the order of its steps, so tests play all orders instead of
    hoping for the decisive one. An actor that yields n times has n + 1 steps; a coroutine has one.
    """
    turns = [actor for actor, count in enumerate(steps) for _ in range(count)]
    return sorted(set(permutations(turns)))


async def play(order: Order, *actors: Actor | Coroutine[Any, Any, object]) -> None:
    """Run the steps of the actors in this order, each actor to its end.

    An actor is an async generator that yields wherever another may run in between, or a coroutine
    without such a point.
    """
    running = set(range(len(actors)))
    try:
        for turn in order:
            assert turn in running, f"actor {turn} has fewer steps than the order says"
            actor = actors[turn]
            if isinstance(actor, Coroutine):
                await actor
                running.remove(turn)
                continue
            try:
                await anext(actor)
            except StopAsyncIteration:
                running.remove(turn)
        assert not running, f"actors {running} have more steps than the order says"
    finally:
        for actor in actors:
            if isinstance(actor, Coroutine):
                actor.close()
            else:
                await actor.aclose()


@contextmanager
def noting_order(order: Order | Sequence[str]) -> Iterator[None]:
    """Add the order to any error raised inside the block."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the order {order}")
        raise


async def outcome(call: Awaitable[T]) -> T | SluiceError:
    """Return the answer or the `SluiceError`."""
    try:
        return await call
    except SluiceError as refused:
        return refused


def reason(answer: object) -> str:
    """Return the reason of a refusal; fail the test for any other answer."""
    assert isinstance(answer, SluiceError), answer
    return answer.reason


async def at_once(*calls: Awaitable[T]) -> list[T | SluiceError]:
    """Return the outcomes of calls that a barrier starts together."""
    barrier = asyncio.Barrier(len(calls))

    async def one(call: Awaitable[T]) -> T | SluiceError:
        await barrier.wait()
        return await outcome(call)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(call)) for call in calls]
    return [task.result() for task in tasks]
