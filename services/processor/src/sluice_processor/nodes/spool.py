"""Brings a whole object to a descriptor that children can read, and hashes it on the way."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sluice_processor.images.model import MIB, ImageRefused, RefusalReason

_BUFFER_BYTES: Final = MIB


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """Where objects lie while they are processed: `in_memory_bytes` at most for each at a time."""

    in_memory_bytes: int = 64 * MIB
    """Objects up to this size stay in memory, larger ones go to a nameless file."""
    directory: Path | None = None
    """Of those files; None is the system's own for temporary files."""
    max_bytes: int = 512 * MIB


@dataclass(frozen=True, slots=True)
class Spooled:
    """A whole object."""

    fd: int
    """For `ImageWorkers.process`; open as long as the context is."""
    size: int
    sha256: bytes


@asynccontextmanager
async def spooled(
    blocks: AsyncIterator[bytes], expected_bytes: int, options: SpoolOptions
) -> AsyncIterator[Spooled]:
    """Take all blocks to a descriptor and hash them, both off the event loop.

    `expected_bytes` only chooses where they go. Closing `blocks` is the caller's. Raises
    `ImageRefused` TOO_LARGE past `max_bytes`, `OSError` of a full disk, and what `blocks` raises.
    """
    sha256 = hashlib.sha256()
    size = 0
    # A buffered writer has a lock: leaving early waits until a thread has let go of the file.
    with await _created(expected_bytes, options) as file:

        def take(block: bytes) -> None:
            sha256.update(block)
            file.write(block)

        async for block in blocks:
            size += len(block)
            if size > options.max_bytes:
                raise ImageRefused(
                    RefusalReason.TOO_LARGE, f"The object has more than {options.max_bytes} bytes."
                )
            await asyncio.to_thread(take, block)
        await asyncio.to_thread(file.flush)
        yield Spooled(file.fileno(), size, sha256.digest())


async def _created(expected_bytes: int, options: SpoolOptions) -> io.BufferedWriter:
    """A file made in a thread. Whoever leaves meanwhile leaves none open."""
    creating = asyncio.create_task(asyncio.to_thread(_create, expected_bytes, options))
    try:
        return await asyncio.shield(creating)
    except asyncio.CancelledError:
        creating.add_done_callback(_close)
        await asyncio.wait([creating])
        raise


def _close(creating: asyncio.Task[io.BufferedWriter]) -> None:
    if not creating.cancelled() and creating.exception() is None:
        creating.result().close()


def _create(expected_bytes: int, options: SpoolOptions) -> io.BufferedWriter:
    if expected_bytes <= options.in_memory_bytes:
        fd = os.memfd_create("sluice-object", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile(dir=options.directory, buffering=0) as nameless:
            fd = os.dup(nameless.fileno())
    return io.BufferedWriter(io.FileIO(fd, "r+"), _BUFFER_BYTES)
