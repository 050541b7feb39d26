"""File I/O of the file-based adapters: threads, new files, durable directories. Everything that
is not `async` blocks and is called in a thread of `DiskThreads`.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from sluice_core.errors import PermissionDenied, ResourceExhausted, SluiceError, Unavailable

SMALL_BYTES = 256 * 1024
"""Bytes buffered in memory, so that a small file costs one thread hand-off."""

_DISK_FULL_RETRY_SECONDS = 5.0
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

P = ParamSpec("P")
T = TypeVar("T")


def disk_error(error: OSError, unavailable: str, denied: str = "") -> SluiceError:
    """Return the error for callers; cause and path appear only in its log detail."""
    detail = f"{type(error).__name__}: {error}"
    if error.errno in _FULL:
        return ResourceExhausted(
            "DISK_FULL",
            "The server's disk is full; try again once space has been freed.",
            retry_after_seconds=_DISK_FULL_RETRY_SECONDS,
            log_detail=detail,
        )
    if denied and error.errno in _DENIED:
        return PermissionDenied(
            denied,
            "The server may not use its own storage; its operator has to check the permissions.",
            log_detail=detail,
        )
    return Unavailable(unavailable, "The server's storage failed; try again.", log_detail=detail)


class DiskThreads:
    """Thread pool of one store.

    A submitted job always finishes before the call returns, even when the caller is cancelled, so
    that its buffers and files stay valid while it runs.

    Args:
        name: prefix of the threads' names.
        workers: number of threads; with fsync more of them overlap their waits.
        unavailable: reason of the `Unavailable` raised for an OSError.
        denied: reason of the `PermissionDenied` raised for a denied access; without it that raises
            `Unavailable` too.
    """

    def __init__(self, name: str, *, workers: int, unavailable: str, denied: str = "") -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._unavailable = unavailable
        self._denied = denied

    async def aclose(self) -> None:
        """Finish submitted jobs and stop the threads."""
        await asyncio.to_thread(self._executor.shutdown)

    async def run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the job's result; convert an OSError with `disk_error`."""
        return await self.result(self._start(job, *args, **kwargs))

    def post(self, job: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Submit a job that reports its outcome itself; any thread may call.

        Raise `RuntimeError` after `aclose`.
        """
        self._executor.submit(job, *args, **kwargs)

    async def result(self, future: asyncio.Future[T]) -> T:
        """Return the result of a job; it has finished on return, even if the caller is cancelled.

        Raise the errors of `run`. Several callers may wait for one future.
        """
        await _wait_done(future)
        try:
            return future.result()
        except OSError as error:
            raise disk_error(error, self._unavailable, self._denied) from error

    async def stream(self, items: Generator[T, None, None]) -> AsyncGenerator[T, None]:
        """Iterate a blocking generator, one item ahead of the consumer; close it at the end."""
        ahead = self._start(_next, items)
        try:
            while item := await self.result(ahead):
                ahead = self._start(_next, items)
                yield item[0]
        finally:
            # A running generator cannot be closed: wait for the item in flight first.
            await _wait_done(ahead)
            await self.run(items.close)

    def _start(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        return asyncio.wrap_future(self._executor.submit(job, *args, **kwargs))


def _next(items: Generator[T, None, None]) -> tuple[T] | None:
    """Return the next item in a tuple; None at the end: a future cannot carry StopIteration."""
    for item in items:
        return (item,)
    return None


class DiskStore:
    """Base of a store on disk: a context manager that stops the store's threads."""

    def __init__(self, threads: DiskThreads) -> None:
        self._threads = threads

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop the store's threads; its files stay."""
        await self._threads.aclose()


async def _wait_done(future: asyncio.Future[T]) -> None:
    """Wait until the future is done, despite cancellation; re-raise the cancellation then."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    future.exception()  # mark as retrieved: after a cancellation no caller reads the result
    if cancelled is not None:
        raise cancelled


# ------------------------------------------------------------------ files


class NewFile:
    """File written block by block, without an open descriptor between blocks.

    Blocks are buffered in memory up to SMALL_BYTES. A larger file is opened, extended and closed
    once per buffer. That costs microseconds, and no descriptor leaks when a sender vanishes.

    Args:
        create: opens the file, which must not exist, for writing; returns the descriptor.
    """

    def __init__(
        self, threads: DiskThreads, path: Path, *, fsync: bool, create: Callable[[Path], int]
    ) -> None:
        self._threads = threads
        self._path = path
        self._fsync = fsync
        self._create = create
        self._created = False
        self._buffer = bytearray()

    @property
    def created(self) -> bool:
        """Whether the file was created, and has to be removed if it is discarded."""
        return self._created

    @property
    def buffer(self) -> bytearray:
        """Bytes in memory that are not in the file yet."""
        return self._buffer

    async def append(self, block: bytes | memoryview) -> None:
        """Append a block; it is copied or written on return."""
        if len(self._buffer) + len(block) <= SMALL_BYTES:
            self._buffer += block
            return
        await self._threads.run(self._write, block)

    async def finish(self, then: Callable[[], T]) -> T:
        """Write the buffer, fsync if configured, and call `then` in the same thread hand-off."""
        return await self._threads.run(self._finish, then)

    def _finish(self, then: Callable[[], T]) -> T:
        if self._buffer or self._fsync or not self._created:
            self._write(b"", last=True)
        return then()

    def _write(self, block: bytes | memoryview, last: bool = False) -> None:
        fd = self._open()
        try:
            write_all(fd, self._buffer)
            write_all(fd, block)
            if last and self._fsync:
                os.fsync(fd)
        finally:
            os.close(fd)
        self._buffer.clear()

    def _open(self) -> int:
        if self._created:
            return os.open(self._path, os.O_WRONLY | os.O_APPEND)
        fd = self._create(self._path)
        self._created = True
        return fd


def create_file(path: Path) -> int:
    """Create a file, which must not exist, and open it for writing."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data`: on a nearly full disk one write may be short."""
    done = os.write(fd, data)
    while done < len(data):
        with memoryview(data) as view:
            done += os.write(fd, view[done:])


def unlink_quietly(path: Path) -> None:
    """Remove a file if it exists."""
    path.unlink(missing_ok=True)


# ------------------------------------------------------------------ directories


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable across power loss."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directories(path: Path, *, fsync: bool) -> None:
    """Create a directory and its missing parents."""
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
    """Remove a directory if it is empty; return whether it is gone."""
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
    """Write a new file in one step."""
    fd = create_file(path)
    try:
        write_all(fd, data)
        if fsync:
            os.fsync(fd)
    finally:
        os.close(fd)
