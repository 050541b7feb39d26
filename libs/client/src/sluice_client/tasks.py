"""Small helpers around asyncio: threads that end before their files close, groups that unwrap."""

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
    """The upload takes no more chunks; `status` says where it stands. Never leaves the SDK."""

    def __init__(self, status: UploadStatus) -> None:
        super().__init__(status.state)
        self.status = status


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work in a thread; a cancelled caller waits until the thread has let go.

    Otherwise the caller would close a file descriptor under a thread that still reads from it,
    and the next file to be opened would get the same number.
    """
    # As asyncio.to_thread does it, without the task around it.
    running = asyncio.get_running_loop().run_in_executor(
        None, partial(contextvars.copy_context().run, work, *args, **kwargs)
    )
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await outlast(running)
        raise


async def outlast(running: asyncio.Future[Any]) -> None:
    """Wait until `running` is done, however often the caller is cancelled; drop its result."""
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            continue
    if not running.cancelled():
        running.exception()


@contextmanager
def single_failure() -> Iterator[None]:
    """Raise the one failure of a task group by itself.

    Several at once: the first that is no defect, unless a defect is among them.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        # One failure may reach several tasks: a source that breaks breaks for every stream.
        failures = list(dict.fromkeys(_leaves(group)))
        expected = [one for one in failures if isinstance(one, SluiceError | Ended | OSError)]
        if len(failures) > 1 and len(expected) < len(failures):
            raise
        first = failures[0]
        # Without the group as its context: the group says nothing that the failure does not.
        raise first from first.__cause__


async def last_wish(wish: Awaitable[object], seconds: float) -> None:
    """Give a clean-up a bounded time, even while the caller is being cancelled.

    Its failure is no news: whatever made the clean-up necessary is what the caller must hear.
    """
    running = asyncio.ensure_future(wish)
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
