"""Spooling of whole objects to a descriptor that decoder children can read."""

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
    """Where objects are kept during processing."""

    in_memory_bytes: int = 64 * MIB
    """Objects up to this size are kept in memory, larger ones in an unnamed file."""
    directory: Path | None = None
    """Directory of those files; None means the system's temporary directory."""
    max_bytes: int = 512 * MIB


@dataclass(frozen=True, slots=True)
class Spooled:
    """A whole object behind a descriptor."""

    fd: int
    """For `ImageWorkers.process`; open inside the context."""
    size: int
    sha256: bytes


@asynccontextmanager
async def spooled(
    blocks: AsyncIterator[bytes], expected_bytes: int, options: SpoolOptions
) -> AsyncIterator[Spooled]:
    """Write all blocks to a descriptor and hash them, both off the event loop.

    `expected_bytes` only selects memory or disk. The caller closes `blocks`. Raise `ImageRefused`
    TOO_LARGE above `max_bytes`, `OSError` for a full disk, and what `blocks` raises.
    """
    sha256 = hashlib.sha256()
    size = 0
    # A buffered writer has a lock: closing it early waits for a thread that still writes.
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
    """Create the file in a thread; on cancellation, close it when it has been created."""
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
