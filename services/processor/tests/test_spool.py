"""Spooling of objects with their SHA-256."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice_processor.images.model import MIB, ImageRefused, RefusalReason
from sluice_processor.nodes.spool import SpoolOptions, spooled
from support.waiting import until

BLOCKS = [os.urandom(MIB), b"", os.urandom(7), os.urandom(3 * MIB)]
WHOLE = b"".join(BLOCKS)


async def blocks(*some: bytes) -> AsyncIterator[bytes]:
    for block in some:
        await asyncio.sleep(0)
        yield block


@pytest.mark.parametrize("in_memory_bytes", [0, 64 * MIB])
async def test_spooled_bytes_match_their_sha256(tmp_path: Path, in_memory_bytes: int) -> None:
    options = SpoolOptions(in_memory_bytes, tmp_path)
    async with spooled(blocks(*BLOCKS), len(WHOLE), options) as found:
        assert found.size == len(WHOLE)
        assert found.sha256 == hashlib.sha256(WHOLE).digest()
        assert os.pread(found.fd, len(WHOLE) + 1, 0) == WHOLE
        assert list(tmp_path.iterdir()) == []  # the file has no name
        in_folder = os.fstat(found.fd).st_dev == tmp_path.stat().st_dev
        assert in_folder == (in_memory_bytes == 0)
        fd = found.fd
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


async def test_empty_object_is_spooled() -> None:
    async with spooled(blocks(), 0, SpoolOptions()) as found:
        assert (found.size, found.sha256) == (0, hashlib.sha256(b"").digest())


async def test_object_above_limit_is_refused_despite_expected_size() -> None:
    with pytest.raises(ImageRefused) as refused:
        async with spooled(blocks(*BLOCKS), 5, SpoolOptions(max_bytes=2 * MIB)):
            pytest.fail("must not get here")
    assert refused.value.reason is RefusalReason.TOO_LARGE


async def test_failed_source_or_cancelled_caller_closes_file() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"some"
        raise ConnectionError("gone")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(MIB)

    await asyncio.to_thread(int)  # start the thread pool before descriptors are counted
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ConnectionError):
        async with spooled(broken(), 4, SpoolOptions()):
            pytest.fail("must not get here")
    for seconds in (0.0, 0.001, 0.01, 0.05):
        with pytest.raises(TimeoutError):
            async with (
                asyncio.timeout(seconds),
                spooled(endless(), 4, SpoolOptions(max_bytes=1 << 40)),
            ):
                pytest.fail("must not get here")
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_cancel_during_file_creation_closes_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    making, go_on, made = threading.Event(), threading.Event(), threading.Event()
    create = os.memfd_create

    def slowly(name: str, flags: int) -> int:
        making.set()
        assert go_on.wait(10)
        fd = create(name, flags)
        made.set()
        return fd

    monkeypatch.setattr(os, "memfd_create", slowly)

    async def nothing() -> AsyncIterator[bytes]:
        return
        yield

    async def caller() -> None:
        async with spooled(nothing(), 0, SpoolOptions()):
            pytest.fail("must not get here")

    before = len(os.listdir("/proc/self/fd"))
    task = asyncio.create_task(caller())
    await asyncio.to_thread(making.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # a second time
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(made.wait, 10)

    async def closed() -> bool:
        return len(os.listdir("/proc/self/fd")) <= before

    await until(closed, 5, "the file is closed")
