"""Local destinations of a download: files, replaced atomically, and existing pipes or devices."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from sluice_client.local_files import (
    DescriptorThread,
    PathText,
    named_descriptor,
    naming,
    open_for_writing,
)
from sluice_client.tasks import in_thread

Sink = Callable[[bytes], Awaitable[None]]
"""Writes one block; raises an OSError that names the destination when it cannot."""
Pour = Callable[[Sink], Awaitable[None]]
"""Passes every block to a sink and verifies the content."""


async def pour_into_path(
    path: PathText, pour: Pour, waiting_for_reader: Callable[[], None]
) -> None:
    """Write the blocks of `pour` to a path.

    A regular file is replaced as a whole, by rename, so that no reader sees a part of it. Anything
    else that exists (a pipe, a device, a terminal) is written into. Links are followed: their
    target is replaced or written into, not the link.

    Raise OSError with the path as given, IsADirectoryError for a folder, which includes every path
    that ends with a "/".
    """
    descriptor = await in_thread(named_descriptor, path)
    if descriptor is not None:
        await pour_into_descriptor(descriptor, pour, path)
        return
    regular = await in_thread(_regular_file, path)
    if regular is not None:
        await _replace(regular, path, pour)
        return
    descriptor = await open_for_writing(path, waiting_for_reader)
    try:
        await pour_into_descriptor(descriptor, pour, path)
    finally:
        os.close(descriptor)


async def pour_into_descriptor(descriptor: int, pour: Pour, name: PathText) -> None:
    """Write the blocks of `pour` to an open descriptor, which stays open."""
    async with DescriptorThread(descriptor) as thread:

        async def write(block: bytes) -> None:
            with naming(name):
                await thread.write(block)

        await pour(write)


def write_to(file: BinaryIO) -> Sink:
    """Return a sink that writes to a file object in a thread."""

    def write(block: bytes) -> None:
        view = memoryview(block)
        while view:
            # An unbuffered file may accept only a part of the block.
            view = view[file.write(view) :]

    async def write_in_thread(block: bytes) -> None:
        await in_thread(write, block)

    return write_in_thread


async def _replace(regular: Path, named: PathText, pour: Pour) -> None:
    with _temporary_beside(regular, named) as (file, temporary):
        sink = write_to(file)

        async def write(block: bytes) -> None:
            with naming(named):
                await sink(block)

        await pour(write)
        with naming(named):
            # Before the rename: some file systems report a full disk only here.
            await in_thread(file.close)
            await in_thread(temporary.replace, regular)


def _regular_file(path: PathText) -> Path | None:
    """Return the file to create or replace, links resolved; None for one to write into."""
    text = os.fspath(path)
    try:
        mode = os.stat(text).st_mode
    except FileNotFoundError:
        if text.endswith("/"):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), text) from None
        # A new file, or a dangling link whose target is created.
        return Path(os.path.realpath(text))
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), text)
    if stat.S_ISSOCK(mode):
        raise OSError(errno.ENXIO, "a socket cannot be written to", text)
    return Path(os.path.realpath(text)) if stat.S_ISREG(mode) else None


@contextmanager
def _temporary_beside(path: Path, named: PathText) -> Iterator[tuple[BinaryIO, Path]]:
    """Yield a new file in the same folder. Remove it afterwards unless it was renamed."""
    with naming(named):
        descriptor, temporary = _new_file(path)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            yield cast(BinaryIO, file), temporary
    finally:
        temporary.unlink(missing_ok=True)


def _new_file(beside: Path) -> tuple[int, Path]:
    # Not tempfile.mkstemp, whose files only their owner may read: with 0o666 the kernel applies the
    # umask, or the folder's default ACL. Python can read the umask only by changing it for the
    # whole process.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        temporary = beside.with_name(f".{beside.name[:40]}.{secrets.token_hex(4)}.part")
        try:
            return os.open(temporary, flags, 0o666), temporary
        except FileExistsError:
            continue
