"""Blocking file work, away from the event loop: threads, new files, directories that last.

The adapters that keep things in files (chunks, objects, the event log) share these. Everything
here that is not `async` blocks and is called inside a thread of `DiskThreads`.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from sluice_core.errors import PermissionDenied, ResourceExhausted, SluiceError, Unavailable

SMALL_BYTES = 256 * 1024
"""Up to here bytes are gathered in memory, so that a small file costs one trip to a thread."""

_DISK_FULL_RETRY_SECONDS = 5.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

P = ParamSpec("P")
T = TypeVar("T")


def disk_error(error: OSError, unavailable: str, denied: str = "") -> SluiceError:
    """The error that a caller sees; why it failed, and on which path, is for the log."""
    why = f"{type(error).__name__}: {error}"
    if error.errno in _FULL:
        return ResourceExhausted(
            "DISK_FULL",
            "The server's disk is full; try again once space has been freed.",
            retry_after_seconds=_DISK_FULL_RETRY_SECONDS,
            log_detail=why,
        )
    if denied and error.errno in _DENIED:
        return PermissionDenied(
            denied,
            "The server may not use its own storage; its operator has to check the permissions.",
            log_detail=why,
        )
    return Unavailable(unavailable, "The server's storage failed; try again.", log_detail=why)


class DiskThreads:
    """A few threads that one store owns.

    A job that was handed over always runs to its end before the call returns, even when the
    caller is cancelled: the buffers and files that it works on are never pulled from under it.

    Args:
        name: prefix of the threads' names.
        workers: number of threads; with fsync more of them overlap their waits.
        unavailable: reason of the `Unavailable` that an OSError becomes.
        denied: reason of the `PermissionDenied` that a refused access becomes; without it that
            is `Unavailable` too.
    """

    def __init__(self, name: str, *, workers: int, unavailable: str, denied: str = "") -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._unavailable = unavailable
        self._denied = denied

    async def aclose(self) -> None:
        """End the threads, after the jobs that they have."""
        await asyncio.to_thread(self._executor.shutdown)

    async def run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The job's result. Raises as `disk_error` says when it fails with an OSError."""
        return await self.result(self._start(job, *args, **kwargs))

    def post(self, job: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Hand over a job that tells by itself how it went; any thread may call.

        Raises `RuntimeError` once the threads were ended.
        """
        self._executor.submit(job, *args, **kwargs)

    async def result(self, future: asyncio.Future[T]) -> T:
        """What a job comes to; it has ended when this returns, whatever happens to the caller.

        Raises as `run` does. Any number of callers may wait for one future.
        """
        await _settled(future)
        try:
            return future.result()
        except OSError as error:
            raise disk_error(error, self._unavailable, self._denied) from error

    async def stream(self, items: Generator[T, None, None]) -> AsyncGenerator[T, None]:
        """Iterate a blocking generator, one item ahead of the consumer; closes it at the end."""
        ahead = self._start(_next, items)
        try:
            while got := await self.result(ahead):
                ahead = self._start(_next, items)
                yield got[0]
        finally:
            # A generator cannot be closed while it runs, so the item in flight comes first.
            await _settled(ahead)
            await self.run(items.close)

    def _start(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        return asyncio.wrap_future(self._executor.submit(job, *args, **kwargs))


def _next(items: Generator[T, None, None]) -> tuple[T] | None:
    """The next item in a tuple; None at the end, for a future cannot carry StopIteration."""
    for item in items:
        return (item,)
    return None


async def _settled(future: asyncio.Future[T]) -> None:
    """Wait until the future has ended, whatever happens to the caller meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    future.exception()  # seen, whether or not somebody asks for the result
    if cancelled is not None:
        raise cancelled


# ------------------------------------------------------------------ files


class NewFile:
    """A file on its way: written block by block, without a descriptor held in between.

    Blocks gather in memory up to SMALL_BYTES; a larger file is opened, extended and closed once
    per gathering. That costs microseconds and leaves nothing open when a sender vanishes.

    Args:
        create: opens the file for writing, which must not exist yet; returns the descriptor.
    """

    def __init__(
        self, threads: DiskThreads, path: Path, *, fsync: bool, create: Callable[[Path], int]
    ) -> None:
        self._threads = threads
        self._path = path
        self._fsync = fsync
        self._create = create
        self._created = False
        self._gathered = bytearray()

    @property
    def created(self) -> bool:
        """Whether there is a file of ours, to be removed if it is not wanted."""
        return self._created

    @property
    def gathered(self) -> bytearray:
        """What is in memory and not in the file yet."""
        return self._gathered

    async def append(self, block: bytes | memoryview) -> None:
        """Add a block; it is copied or written when this returns."""
        if len(self._gathered) + len(block) <= SMALL_BYTES:
            self._gathered += block
            return
        await self._threads.run(self._write, block)

    async def finish(self, then: Callable[[], T]) -> T:
        """Write what is gathered (fsync as told), then do `then` in the same thread trip."""
        return await self._threads.run(self._finish, then)

    def _finish(self, then: Callable[[], T]) -> T:
        if self._gathered or self._fsync or not self._created:
            self._write(b"", last=True)
        return then()

    def _write(self, block: bytes | memoryview, last: bool = False) -> None:
        fd = self._open()
        try:
            write_all(fd, self._gathered)
            write_all(fd, block)
            if last and self._fsync:
                os.fsync(fd)
        finally:
            os.close(fd)
        self._gathered.clear()

    def _open(self) -> int:
        if self._created:
            return os.open(self._path, os.O_WRONLY | os.O_APPEND)
        fd = self._create(self._path)
        self._created = True
        return fd


def create_file(path: Path) -> int:
    """Open a file that must not exist yet, for writing."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of it: a disk that is nearly full may take a part only."""
    done = os.write(fd, data)
    while done < len(data):
        with memoryview(data) as view:
            done += os.write(fd, view[done:])


def unlink_quietly(path: Path) -> None:
    """Remove a file that may be gone already."""
    path.unlink(missing_ok=True)


# ------------------------------------------------------------------ directories


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directories(path: Path, *, fsync: bool) -> None:
    """Make a directory and its missing parents."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_directories(path.parent, fsync=fsync)
        path.mkdir(mode=0o700, exist_ok=True)
    if fsync:
        sync_directory(path.parent)


def remove_if_empty(path: Path) -> bool:
    """Remove a directory unless something lies in it; whether it is gone."""
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def write_whole(path: Path, data: bytes, *, fsync: bool) -> None:
    """Write a new file in one go."""
    fd = create_file(path)
    try:
        write_all(fd, data)
        if fsync:
            os.fsync(fd)
    finally:
        os.close(fd)
