"""Completion of steps despite cancellation, and release of the frames of errors."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from sluice_core.concurrency.cancellation import finish_despite_cancel, forget_frames


async def test_the_result_of_the_step_is_returned() -> None:
    async def step() -> int:
        await asyncio.sleep(0)
        return 7

    assert await finish_despite_cancel(step()) == 7


async def test_the_error_of_the_step_is_raised() -> None:
    async def step() -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await finish_despite_cancel(step())


@pytest.mark.parametrize("fails", [False, True])
async def test_cancelled_task_finishes_the_step_then_cancels(fails: bool) -> None:
    go_on, done = asyncio.Event(), False

    async def step() -> None:
        nonlocal done
        await go_on.wait()
        done = True
        if fails:
            raise ValueError("broken")

    task = asyncio.ensure_future(finish_despite_cancel(step()))
    await asyncio.sleep(0)
    for _ in range(3):  # repeated cancellations
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Disable the garbage collector, so that only unreferenced objects are freed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Block:
    """Local of a frame."""


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("cancelled", [False, True])
async def test_locals_of_a_caller_are_freed_with_its_task(cancelled: bool) -> None:
    had: list[weakref.ref[Block]] = []

    async def step() -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    async def caller() -> None:
        block = Block()
        had.append(weakref.ref(block))
        await finish_despite_cancel(step())

    task = asyncio.ensure_future(caller())
    await asyncio.sleep(0)
    if cancelled:
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() == cancelled
    if not cancelled:
        assert isinstance(task.exception(), ValueError)
    del task
    await asyncio.sleep(0)
    assert had[0]() is None


def fail_in_a_circle(had: list[weakref.ref[Block]]) -> None:
    """Fail with a reference cycle between the frame and its error."""
    block = Block()
    had.append(weakref.ref(block))
    error = ValueError("in a circle")
    raise error


def fail_because_of_it(had: list[weakref.ref[Block]]) -> None:
    try:
        fail_in_a_circle(had)
    except ValueError as cause:
        raise KeyError("because of it") from cause


@pytest.mark.usefixtures("no_collector")
def test_error_without_tracebacks_frees_the_frames_locals() -> None:
    had: list[weakref.ref[Block]] = []
    with pytest.raises(KeyError) as caught:
        fail_because_of_it(had)
    forget_frames(caught.value)
    assert had[0]() is None


@pytest.mark.usefixtures("no_collector")
def test_error_with_tracebacks_keeps_locals_until_collection() -> None:
    had: list[weakref.ref[Block]] = []
    with pytest.raises(ValueError, match="in a circle"):
        fail_in_a_circle(had)
    assert had[0]() is not None
    gc.collect()
    assert had[0]() is None


async def test_frame_in_use_by_another_task_is_not_cleared() -> None:
    """Two tasks await one error; one still cleans up when the other has released it."""
    shared: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    go_on, cleaned = asyncio.Event(), False

    async def cleaner() -> None:
        nonlocal cleaned
        try:
            await shared
        except ConnectionError:
            await go_on.wait()
            cleaned = True

    task = asyncio.ensure_future(cleaner())
    await asyncio.sleep(0)
    error = ConnectionError("for both")
    shared.set_exception(error)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    forget_frames(error)
    go_on.set()
    await task
    assert cleaned


def test_cyclic_error_causes_are_visited_once() -> None:
    first, second = ValueError("hen"), ValueError("egg")
    first.__cause__, second.__cause__ = second, first
    forget_frames(first)
