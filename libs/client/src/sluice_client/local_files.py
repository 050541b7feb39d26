"""Local files that are not regular: named descriptors, pipes, terminals and devices."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import select
import stat
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

from sluice_client.errors import InvalidArgument
from sluice_client.model import BLOCK_BYTES
from sluice_client.tasks import wait_despite_cancel

T = TypeVar("T")

PathText = str | os.PathLike[str]

_STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(
    r"/(?:dev|proc/(?:self|thread-self|(?P<pid>[0-9]+)))/fd/(?P<number>[0-9]+)"
)
_MAX_LINKS = 40
_PIPE_STEP_BYTES = 4096
"""Linux: bytes that a blocking pipe that polls as writable accepts at once (PIPE_BUF)."""
_READER_POLL_SECONDS = 0.05


def named_descriptor(path: PathText) -> int | None:
    """Return this process's open descriptor that a path names, following links; None if it names
    none.

    `/dev/stdin`, `/dev/fd/63` and `/proc/self/fd/63` (what a shell makes of `<(…)`) are names of
    descriptors. Reopening such a name loses the position and the append mode, and fails for
    sockets. Blocking.
    """
    try:
        text = os.path.abspath(os.fspath(path))
    except FileNotFoundError:  # a relative path, and the working folder was removed
        return None
    for _ in range(_MAX_LINKS):
        if text in _STANDARD:
            return _STANDARD[text]
        match = _DESCRIPTOR.fullmatch(text)
        if match is not None and match["pid"] in (None, str(os.getpid())):
            return int(match["number"])
        try:
            target = os.readlink(text)
        except OSError:
            return None
        text = os.path.normpath(os.path.join(os.path.dirname(text), target))
    return None


@contextmanager
def naming(path: PathText) -> Iterator[None]:
    """Set the path of an OSError to the caller's, in place of none or of a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def open_for_reading(path: PathText) -> int:
    """Open a file of any kind; the caller closes it. Blocks briefly.

    Raise InvalidArgument NOT_A_REGULAR_FILE for a folder.
    """
    named = named_descriptor(path)
    with naming(path):
        # O_NONBLOCK: opening a FIFO without a writer must not hang.
        descriptor = (
            os.dup(named)
            if named is not None
            else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        )
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InvalidArgument(
                "NOT_A_REGULAR_FILE", f"{os.fspath(path)} is a folder; upload the files in it"
            )
    return descriptor


async def open_for_writing(
    path: PathText, waiting_for_reader: Callable[[], None] = lambda: None
) -> int:
    """Open an existing file that is not regular; the caller closes it.

    Wait for the reader of a FIFO; call `waiting_for_reader` once before waiting.
    """
    notified = False
    while True:
        try:
            with naming(path):
                return os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(path).st_mode):
                raise
        if not notified:
            notified = True
            waiting_for_reader()
        await asyncio.sleep(_READER_POLL_SECONDS)


class DescriptorThread:
    """Thread for the blocking reads or writes of one descriptor, which stays the caller's.

    Such reads and writes may wait for ever. The thread polls before every step, so that a cancelled
    caller is free at once and no shared descriptor is made non-blocking, which would change it for
    every other process that holds it.

    An async context manager. A cancelled `read` or `write` returns as soon as the thread has
    released the descriptor, whatever the other end does.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def __aenter__(self) -> Self:
        self._stop_read, self._stop_write = os.pipe()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="sluice-descriptor")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
        os.close(self._stop_read)
        os.close(self._stop_write)

    async def read(self) -> bytes:
        """Return the available bytes, at most one block; empty at the end of the file."""
        return await self._run(self._read)

    async def write(self, data: bytes) -> None:
        """Return when every byte is written."""
        await self._run(lambda: self._write(data))

    async def _run(self, work: Callable[[], T]) -> T:
        running = asyncio.get_running_loop().run_in_executor(self._executor, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            os.write(self._stop_write, b"\0")
            await wait_despite_cancel(running)
            raise

    def _read(self) -> bytes:
        pieces: list[bytes] = []
        lacking = BLOCK_BYTES
        # A pipe holds less than a block: read the bytes that arrived meanwhile as well.
        while lacking and self._ready(select.POLLIN, wait=not pieces):
            try:
                piece = os.read(self._descriptor, lacking)
            except BlockingIOError:
                continue
            if not piece:
                break
            pieces.append(piece)
            lacking -= len(piece)
        return b"".join(pieces)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        blocking = os.get_blocking(self._descriptor) and not stat.S_ISREG(
            os.fstat(self._descriptor).st_mode
        )
        step = _PIPE_STEP_BYTES if blocking else BLOCK_BYTES
        while view and self._ready(select.POLLOUT, wait=True):
            try:
                view = view[os.write(self._descriptor, view[:step]) :]
            except BlockingIOError:
                continue

    def _ready(self, event: int, *, wait: bool) -> bool:
        """Poll. Return False when the descriptor is not ready, or the thread is to stop."""
        poll = select.poll()
        poll.register(self._descriptor, event)
        poll.register(self._stop_read, select.POLLIN)
        ready = dict(poll.poll(None if wait else 0))
        return self._stop_read not in ready and self._descriptor in ready


async def descriptor_blocks(descriptor: int) -> AsyncGenerator[bytes, None]:
    """Yield the blocks of a pipe, terminal or device until its end."""
    async with DescriptorThread(descriptor) as thread:
        while block := await thread.read():
            yield block
