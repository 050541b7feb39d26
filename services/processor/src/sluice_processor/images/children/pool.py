"""A bounded pool of decoder children: one picture at a time each, none endangers the parent."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self

from sluice_core.concurrency.allowance import allowance_paused
from sluice_processor.images.children.process import DecoderChild
from sluice_processor.images.model import ImageOptions, ImageRefused, ProcessedImage, RefusalReason

_UNUSABLE_AFTER: Final = frozenset(
    {RefusalReason.MEMORY, RefusalReason.TIMEOUT, RefusalReason.CRASHED}
)
"""What a child is not asked again after: its heap is full of holes, or it is gone."""


class WorkersClosed(Exception):
    """The pool is being left; nothing is said about the picture."""


class _Seat:
    """A place for one child; who holds the seat is the only one who talks to the child."""

    def __init__(self) -> None:
        self.child: DecoderChild | None = None
        self._leaving: DecoderChild | None = None

    def vacate(self) -> None:
        """Kill the child; the seat is not taken again before it is gone (`vacated`)."""
        if self.child is not None:
            self.child.kill()
            self._leaving, self.child = self.child, None

    async def vacated(self) -> None:
        if self._leaving is not None:
            await self._leaving.stop()
            self._leaving = None


class ImageWorkers:
    """Decodes pictures in child processes; use as an async context manager.

    `process` may be called by any number of tasks: at most `options.workers` pictures are decoded
    at a time, the other callers wait their turn, first come, first served. What they wait does not
    count against their pictures (`sluice_core.concurrency.allowance`).
    """

    def __init__(self, options: ImageOptions) -> None:
        self._options = options
        self._seats = [_Seat() for _ in range(options.workers)]
        self._free: asyncio.LifoQueue[_Seat] = asyncio.LifoQueue()
        for seat in self._seats:
            self._free.put_nowait(seat)
        self._closing = False
        """Set once, before the children are killed."""

    @property
    def pids(self) -> frozenset[int]:
        """Process ids of the children that are there at this moment."""
        return frozenset(seat.child.pid for seat in self._seats if seat.child is not None)

    async def __aenter__(self) -> Self:
        """Start the children, so that a machine that cannot decode fails here.

        Raises `ChildNotStarted`.
        """
        try:
            async with asyncio.TaskGroup() as starting:
                for seat in self._seats:
                    starting.create_task(self._seated(seat))
        except BaseException as failure:
            await self._close()
            if isinstance(failure, ExceptionGroup):
                raise failure.exceptions[0] from None
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Kill every child and wait for its end; who still waits for one gets `WorkersClosed`."""
        await self._close()

    async def process(
        self, source: int | Path, sizes: Sequence[int] | None = None
    ) -> ProcessedImage:
        """Make thumbnails of a picture, and read its facts.

        Args:
            source: a path, or the descriptor of a regular file or memfd; read by offset from 0,
                its position is neither used nor moved, and it stays the caller's to close (not
                before this call has ended).
            sizes: longest sides in pixels, instead of those of the options; empty reads the
                facts only, after decoding all the same.

        Raises `ImageRefused`, whose reason says whether the same bytes may pass later, `OSError`
        of a path that cannot be read, `ChildNotStarted` and `WorkersClosed`. Cancelling kills the
        child that decodes; nothing of the picture stays behind.
        """
        wanted = self._options.thumbnail_sizes if sizes is None else tuple(sizes)
        if any(size < 1 for size in wanted):
            raise ValueError("a thumbnail has at least one pixel")
        async with _opened(source) as fd:
            self._check_size(os.fstat(fd))
            with allowance_paused():  # those before us end by their own limits
                seat = await self._free.get()
            try:
                return await self._process_at(seat, fd, wanted)
            finally:
                self._free.put_nowait(seat)

    async def _process_at(self, seat: _Seat, fd: int, sizes: Sequence[int]) -> ProcessedImage:
        child = await self._seated(seat)
        usable = False
        try:
            result = await child.ask(fd, sizes)
            usable = True
        except ImageRefused as refused:
            if self._closing:
                raise WorkersClosed from None
            usable = refused.reason not in _UNUSABLE_AFTER
            raise
        finally:
            if not usable or child.asked >= self._options.items_per_child:
                seat.vacate()
        return result

    async def _seated(self, seat: _Seat) -> DecoderChild:
        """The seat's child; a new one when it has none or when it died while nobody asked it."""
        if self._closing:
            raise WorkersClosed
        if seat.child is not None and not seat.child.alive:
            seat.vacate()
        await seat.vacated()
        if seat.child is None:
            with allowance_paused():  # `start_seconds` at most
                seat.child = await DecoderChild.start(self._options)
        return seat.child

    async def _close(self) -> None:
        self._closing = True
        for seat in self._seats:  # whoever waits for an answer sees the end of its child
            if seat.child is not None:
                seat.child.kill()
        for _ in self._seats:
            seat = await self._free.get()
            seat.vacate()
            await seat.vacated()
        for seat in self._seats:  # a late caller is told, not kept waiting
            self._free.put_nowait(seat)

    def _check_size(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("a picture is read from a regular file or a memfd")
        if status.st_size == 0:
            raise ImageRefused(RefusalReason.EMPTY, "The file has no bytes.")
        if status.st_size > self._options.max_source_bytes:
            raise ImageRefused(
                RefusalReason.TOO_LARGE,
                f"{status.st_size} bytes are more than {self._options.max_source_bytes}.",
            )


@asynccontextmanager
async def _opened(source: int | Path) -> AsyncIterator[int]:
    if isinstance(source, int):
        yield source
        return
    opening = asyncio.ensure_future(asyncio.to_thread(_open, source))
    try:
        fd = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_late)
        raise
    try:
        yield fd
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    """Without waiting for the other end of a pipe."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def _close_late(opening: asyncio.Future[int]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())
