"""A step that has begun is carried to its end; its task is cancelled all the same."""

from __future__ import annotations

import asyncio

import pytest

from sluice_common.finishing import to_the_end


async def test_the_result_of_the_step_is_returned() -> None:
    async def step() -> int:
        await asyncio.sleep(0)
        return 7

    assert await to_the_end(step()) == 7


async def test_the_error_of_the_step_is_raised() -> None:
    async def step() -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await to_the_end(step())


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_task_finishes_the_step_and_ends_as_cancelled(fails: bool) -> None:
    go_on, done = asyncio.Event(), False

    async def step() -> None:
        nonlocal done
        await go_on.wait()
        done = True
        if fails:
            raise ValueError("broken")

    task = asyncio.ensure_future(to_the_end(step()))
    await asyncio.sleep(0)
    for _ in range(3):  # however often it is told
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done
