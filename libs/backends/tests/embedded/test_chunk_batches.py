"""Batches of small chunks: one write and sync, separate results."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice_backends.embedded.chunks.packs import Batch, ChunkPacks
from sluice_backends.embedded.chunks.store import FileChunkStore
from sluice_core.errors import Aborted
from sluice_core.ports import ChunkOffer
from support.packed_chunks import UPLOAD, files, keep, keep_together, read
from support.waiting import until


class StuckWrite:
    """Blocks writes of chunks with the text "stuck" until the test releases them."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._may_go_on = threading.Event()
        self._write = os.write

    def __call__(self, fd: int, data: bytes) -> int:
        if b"stuck" in data:
            self.begun.set()
            assert self._may_go_on.wait(60)
        return self._write(fd, data)

    def go_on(self) -> None:
        self._may_go_on.set()


@pytest.fixture
def stuck_write(monkeypatch: pytest.MonkeyPatch) -> Iterator[StuckWrite]:
    stuck = StuckWrite()
    monkeypatch.setattr(os, "write", stuck)
    yield stuck
    stuck.go_on()


@pytest.mark.parametrize("fsync", [False, True])
async def test_concurrent_chunks_share_one_write_and_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool
) -> None:
    calls: Counter[str] = Counter()
    all_came = threading.Event()
    write, sync, add = os.write, os.fsync, ChunkPacks.add

    def counted_add(packs: ChunkPacks, upload_id: str, token: str, data: bytes) -> Batch:
        calls["add"] += 1
        batch = add(packs, upload_id, token, data)
        if calls["add"] == 200:
            all_came.set()
        return batch

    def counted_write(fd: int, data: bytes) -> int:
        if threading.current_thread() is not threading.main_thread():
            assert all_came.wait(60)  # the disk is slow, or the machine quick
        calls["write"] += 1
        return write(fd, data)

    def counted_sync(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".pack"):
            calls["fsync"] += 1
        sync(fd)

    async with FileChunkStore(tmp_path, fsync=fsync) as store:
        stays = await keep(store, b"there")
        monkeypatch.setattr(ChunkPacks, "add", counted_add)
        monkeypatch.setattr(os, "write", counted_write)
        monkeypatch.setattr(os, "fsync", counted_sync)
        chunks = await keep_together(store, *(bytes([number]) * 50 for number in range(200)))
        # The event loop's wake-ups are writes too, so not every write is of a chunk.
        assert calls["fsync"] <= (20 if fsync else 0)
        assert calls["write"] < 100
        assert await read(store, stays, *chunks) == b"there" + b"".join(
            bytes([number]) * 50 for number in range(200)
        )


@pytest.mark.rule(6)
async def test_seal_waits_for_the_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_sync = threading.Event()
    sync = os.fsync

    def slow(fd: int) -> None:
        assert may_sync.wait(60)
        sync(fd)

    async with FileChunkStore(tmp_path, fsync=True) as store:
        monkeypatch.setattr(os, "fsync", slow)
        sender = asyncio.create_task(keep(store, b"x"))
        done, _ = await asyncio.wait([sender], timeout=0.2)
        assert not done
        may_sync.set()
        assert await read(store, await sender) == b"x"


async def test_uploads_do_not_wait_for_each_others_writes(
    tmp_path: Path, stuck_write: StuckWrite
) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        stuck = asyncio.create_task(keep(store, b"stuck"))
        await until(stuck_write.begun.is_set)
        await keep(store, b"other", upload_id="n1-other")
        assert not stuck.done()
        stuck_write.go_on()
        await stuck


@pytest.mark.parametrize("first", ["being written", "waiting"])
async def test_cancelled_seal_stores_nothing_and_spares_its_batch(
    tmp_path: Path, stuck_write: StuckWrite, first: str
) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        written = asyncio.create_task(keep(store, b"stuck"))
        await until(stuck_write.begun.is_set)
        waiting = asyncio.create_task(keep(store, b"next"))
        await asyncio.sleep(0.1)
        cancelled, other = (written, waiting) if first == "being written" else (waiting, written)
        cancelled.cancel()
        await asyncio.sleep(0.1)
        assert not cancelled.done()  # its bytes are on their way: they are removed afterwards
        stuck_write.go_on()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        chunk = await other
        assert {token for _, tokens in await store.leftovers(-1.0, 9) for token in tokens} == {
            chunk.token
        }
        await store.drop(UPLOAD, [chunk.token])
        assert files(tmp_path) == []


async def test_dropping_an_upload_fails_its_pending_batch(
    tmp_path: Path, stuck_write: StuckWrite
) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        senders = [asyncio.create_task(keep(store, b"stuck"))]
        await until(stuck_write.begun.is_set)
        senders.append(asyncio.create_task(keep(store, b"next")))
        await asyncio.sleep(0.1)
        await store.drop_upload(UPLOAD)
        stuck_write.go_on()
        for sender in senders:
            with pytest.raises(Aborted) as caught:
                await sender
            assert caught.value.reason == "STAGING_DROPPED"
        assert files(tmp_path) == []
        again = await keep(store, b"again")
        assert await read(store, again) == b"again"


async def test_closed_store_rejects_chunks(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        pass
    with pytest.raises(RuntimeError):
        async with store.stage(ChunkOffer(UPLOAD, 0, 0, "token")) as staged:
            await staged.seal()


async def test_chunks_are_read_in_few_thread_hand_offs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        contents = [bytes([number % 251]) * 4096 for number in range(600)]
        chunks = await keep_together(store, *contents)
        blocks = [block async for block in store.read_many(UPLOAD, chunks)]
    assert b"".join(blocks) == b"".join(contents)
    assert len(blocks) == 3
