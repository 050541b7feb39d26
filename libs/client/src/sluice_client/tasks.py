"""asyncio helpers: cancel-safe threads, bounded cleanup, and unwrapped task groups."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

from sluice_client.errors import SluiceError
from sluice_client.model import UploadStatus

P = ParamSpec("P")
T = TypeVar("T")


class Ended(Exception):
    """The upload accepts no more chunks; `status` is its state. Never leaves the SDK."""

    def __init__(self, status: UploadStatus) -> None:
        super().__init__(status.state)
        self.status = status


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work in a thread. A cancelled caller waits until the thread is done.

    Otherwise the caller would close a file descriptor that the thread still reads, and the next
    file to be opened would get the same number.
    """
    # asyncio.to_thread without the task around it.
    running = asyncio.get_running_loop().run_in_executor(
        None, partial(contextvars.copy_context().run, work, *args, **kwargs)
    )
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await wait_despite_cancel(running)
        raise


async def wait_despite_cancel(running: asyncio.Future[Any]) -> None:
    """Wait until `running` is done despite cancellation, and drop its result."""
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            continue
    if not running.cancelled():
        running.exception()


@contextmanager
def single_failure() -> Iterator[None]:
    """Raise the one failure of a task group without the group.

    Of several expected ones (`SluiceError`, `Ended`, `OSError`), raise the first. With a defect
    among several, raise the whole group.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        # One failure may reach several tasks: a failing source fails for every stream.
        failures = list(dict.fromkeys(_leaves(group)))
        expected = [one for one in failures if isinstance(one, SluiceError | Ended | OSError)]
        if len(failures) > 1 and len(expected) < len(failures):
            raise
        first = failures[0]
        # Without the group as context: it adds no information.
        raise first from first.__cause__


async def clean_up_within(cleanup: Awaitable[object], seconds: float) -> None:
    """Run a cleanup for a bounded time, even while the caller is being cancelled.

    Drop its failure: the caller must see the error that made the cleanup necessary.
    """
    running = asyncio.ensure_future(cleanup)
    try:
        await asyncio.shield(asyncio.wait([running], timeout=seconds))
    finally:
        running.cancel()
        if running.done() and not running.cancelled():
            running.exception()


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
