"""Bounded pool of decoder child processes."""

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
"""Reasons after which a child is replaced: its heap is fragmented, or it has died."""


class WorkersClosed(Exception):
    """The pool is closing; the picture was neither decoded nor refused."""


class _Slot:
    """A slot for one child; only the holder of the slot talks to the child."""

    def __init__(self) -> None:
        self.child: DecoderChild | None = None
        self._leaving: DecoderChild | None = None

    def vacate(self) -> None:
        """Kill the child. Await `wait_vacated` before the slot is used again."""
        if self.child is not None:
            self.child.kill()
            self._leaving, self.child = self.child, None

    async def wait_vacated(self) -> None:
        """Wait until a killed child has been reaped."""
        if self._leaving is not None:
            await self._leaving.stop()
            self._leaving = None


class ImageWorkers:
    """Pool of child processes that decode pictures; an async context manager.

    Any number of tasks may call `process`: at most `options.workers` pictures are decoded at a
    time, and the other callers wait in FIFO order. The wait does not count against the caller's
    `Allowance` (`sluice_core.concurrency.allowance`). A child that dies or hangs costs one
    picture, never the parent.
    """

    def __init__(self, options: ImageOptions) -> None:
        self._options = options
        self._slots = [_Slot() for _ in range(options.workers)]
        self._free: asyncio.LifoQueue[_Slot] = asyncio.LifoQueue()
        for slot in self._slots:
            self._free.put_nowait(slot)
        self._closing = False
        """Set once, before the children are killed."""

    @property
    def pids(self) -> frozenset[int]:
        """Process ids of the current children."""
        return frozenset(slot.child.pid for slot in self._slots if slot.child is not None)

    async def __aenter__(self) -> Self:
        """Start the children, so that a machine that cannot decode fails at once.

        Raise `ChildNotStarted`.
        """
        try:
            async with asyncio.TaskGroup() as starting:
                for slot in self._slots:
                    starting.create_task(self._child_in(slot))
        except BaseException as failure:
            await self._close()
            if isinstance(failure, ExceptionGroup):
                raise failure.exceptions[0] from None
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Kill and reap all children; waiting callers get `WorkersClosed`."""
        await self._close()

    async def process(
        self, source: int | Path, sizes: Sequence[int] | None = None
    ) -> ProcessedImage:
        """Make the thumbnails of a picture and read its facts.

        Args:
            source: a path, or the descriptor of a regular file or memfd. A descriptor is read by
                offset from 0; its position is neither used nor moved. The caller closes it after
                this call.
            sizes: longest sides in pixels, instead of those of the options. Without any, the
                picture is decoded for its facts only.

        Raise `ImageRefused`, whose reason says whether a retry may succeed, `OSError` for a path
        that cannot be read, `ChildNotStarted` and `WorkersClosed`. Cancellation kills the child
        that decodes and leaves nothing behind.
        """
        requested = self._options.thumbnail_sizes if sizes is None else tuple(sizes)
        if any(size < 1 for size in requested):
            raise ValueError("thumbnail sizes must be at least one pixel")
        async with _opened(source) as fd:
            self._check_size(os.fstat(fd))
            with allowance_paused():  # the callers ahead have time limits of their own
                slot = await self._free.get()
            try:
                return await self._process_in(slot, fd, requested)
            finally:
                self._free.put_nowait(slot)

    async def _process_in(self, slot: _Slot, fd: int, sizes: Sequence[int]) -> ProcessedImage:
        child = await self._child_in(slot)
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
            if not usable or child.request_count >= self._options.items_per_child:
                slot.vacate()
        return result

    async def _child_in(self, slot: _Slot) -> DecoderChild:
        """Return the child of a slot; start one if it has none or an idle one has died."""
        if self._closing:
            raise WorkersClosed
        if slot.child is not None and not slot.child.alive:
            slot.vacate()
        await slot.wait_vacated()
        if slot.child is None:
            with allowance_paused():  # bounded by `start_seconds`
                slot.child = await DecoderChild.start(self._options)
        return slot.child

    async def _close(self) -> None:
        self._closing = True
        for slot in self._slots:  # a caller that waits for an answer sees EOF
            if slot.child is not None:
                slot.child.kill()
        for _ in self._slots:
            slot = await self._free.get()
            slot.vacate()
            await slot.wait_vacated()
        for slot in self._slots:  # late callers get WorkersClosed instead of waiting
            self._free.put_nowait(slot)

    def _check_size(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("the source must be a regular file or a memfd")
        if status.st_size == 0:
            raise ImageRefused(RefusalReason.EMPTY, "The file has no bytes.")
        if status.st_size > self._options.max_source_bytes:
            raise ImageRefused(
                RefusalReason.TOO_LARGE,
                f"The file has {status.st_size} bytes, more than {self._options.max_source_bytes}.",
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
    """Open a file for reading; never wait for the other end of a pipe."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def _close_late(opening: asyncio.Future[int]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())
