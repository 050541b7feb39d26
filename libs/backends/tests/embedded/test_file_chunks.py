"""Chunks in files: restarts, damage and full disks."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
import structlog

from sluice_backends.disk import SMALL_BYTES
from sluice_backends.embedded.chunks import scan
from sluice_backends.embedded.chunks.store import FileChunkStore
from sluice_core.errors import DataLoss, ResourceExhausted, SluiceError, Unavailable
from sluice_core.ports import ChunkOffer
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.ids import new_token
from sluice_core.uploads.model import MIB, ChunkRef
from support.waiting import until

UPLOAD = "n1-upload"


async def keep(store: FileChunkStore, data: bytes, upload_id: str = UPLOAD) -> ChunkRef:
    token = new_token()
    async with store.stage(ChunkOffer(upload_id, 0, 0, token)) as staged:
        for start in range(0, len(data), MIB):
            await staged.append(memoryview(data)[start : start + MIB])
        await staged.seal()
    return ChunkRef(0, len(data), crc32c(data), token)


async def read(store: FileChunkStore, chunk: ChunkRef) -> bytes:
    return b"".join([block async for block in store.read(UPLOAD, chunk)])


def file_of(root: Path, chunk: ChunkRef) -> Path:
    """Return the chunk's file, or the only pack."""
    (path,) = root.rglob("*.pack" if chunk.size <= SMALL_BYTES else chunk.token)
    return path


@pytest.mark.parametrize("size", [0, 10, SMALL_BYTES, SMALL_BYTES + 1, 3 * MIB])
async def test_sealed_chunks_survive_the_process(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    async with FileChunkStore(tmp_path, fsync=False) as store:
        chunk = await keep(store, data)
    async with FileChunkStore(tmp_path, fsync=False) as store:
        assert await read(store, chunk) == data


@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_flipped_byte_raises_chunk_damaged(size: int, tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        chunk = await keep(store, b"x" * size)
        with file_of(tmp_path, chunk).open("r+b") as file:
            file.seek(-size // 2, os.SEEK_END)
            file.write(b"y")
        with pytest.raises(DataLoss) as caught:
            await read(store, chunk)
        assert caught.value.reason == "CHUNK_DAMAGED"


@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_truncated_file_fails_before_its_first_block(size: int, tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        chunk = await keep(store, b"x" * size)
        path = file_of(tmp_path, chunk)
        os.truncate(path, path.stat().st_size - 1)
        with pytest.raises(DataLoss) as caught:
            await anext(store.read(UPLOAD, chunk))
        assert caught.value.reason == "CHUNK_DAMAGED"


async def test_dropping_the_last_chunk_leaves_no_folder(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        chunks = [await keep(store, b"x") for _ in range(2)]
        await store.drop(UPLOAD, [chunks[0].token])
        assert list(tmp_path.rglob(UPLOAD)) != []
        await store.drop(UPLOAD, [chunks[1].token])
        assert list(tmp_path.rglob(UPLOAD)) == []


async def test_small_blocks_create_no_file_before_seal(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        async with store.stage(ChunkOffer(UPLOAD, 0, 0, "token")) as staged:
            for _ in range(100):
                await staged.append(b"x" * 1000)
            assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
            await staged.seal()
        assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


@pytest.mark.parametrize(
    ("error_number", "error", "reason"),
    [
        (errno.ENOSPC, ResourceExhausted, "DISK_FULL"),
        (errno.EDQUOT, ResourceExhausted, "DISK_FULL"),
        (errno.EIO, Unavailable, "CHUNK_STORE_UNAVAILABLE"),
        (errno.EACCES, Unavailable, "CHUNK_STORE_UNAVAILABLE"),
    ],
    ids=["full", "quota", "broken", "denied"],
)
@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_disk_failure_raises_typed_error_and_leaves_nothing(
    size: int,
    error_number: int,
    error: type[SluiceError],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(fd: int, data: bytes) -> int:
        raise OSError(error_number, "no")

    async with FileChunkStore(tmp_path, fsync=False) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            with pytest.raises(error) as caught:
                await keep(store, b"x" * size)
        assert caught.value.reason == reason
        assert (caught.value.retry_after_seconds is not None) == (reason == "DISK_FULL")
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        assert await read(store, await keep(store, b"now")) == b"now"


async def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    data = os.urandom(MIB)
    async with FileChunkStore(tmp_path, fsync=False) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda fd, block: write(fd, memoryview(block)[:70_000]))
            chunk = await keep(store, data)
        assert await read(store, chunk) == data


@pytest.mark.rule(6)
@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_seal_syncs_file_and_folders_with_fsync(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are durable before `seal` returns."""
    synced: set[str] = set()
    fsync = os.fsync

    def noting(fd: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noting)
    root = tmp_path / "chunks"
    async with FileChunkStore(root, fsync=True) as store:
        chunk = await keep(store, b"x" * size)
    path = file_of(root, chunk)
    assert {str(path), *(str(folder) for folder in list(path.parents)[:4])} <= synced
    assert str(path.parents[3]) == str(tmp_path)


async def test_cancelled_append_waits_for_the_write_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The caller may reuse the block as soon as `append` has ended, also by cancellation.
    write = os.write
    state: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def slow(fd: int, block: bytes) -> int:
        if len(block) == 0:
            return 0
        state.append("begun")
        begun.set()
        assert go_on.wait(60)
        state.append("ended")
        return write(fd, block)

    monkeypatch.setattr(os, "write", slow)
    async with FileChunkStore(tmp_path, fsync=False) as store:
        sender = asyncio.create_task(keep(store, b"x" * MIB))
        await until(begun.is_set)
        sender.cancel()
        await asyncio.sleep(0.05)
        assert not sender.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await sender
        assert state == ["begun", "ended"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# ------------------------------------------------------------------ leftovers


@pytest.mark.parametrize("size", [10, MIB])
async def test_leftovers_are_aged_by_their_last_write(size: int, tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        old = await keep(store, b"o" * size)
        await keep(store, b"y" * size, "n1-young")
        hour_ago = time.time() - 3600
        (folder,) = tmp_path.rglob(UPLOAD)
        os.utime(file_of(folder, old), (hour_ago, hour_ago))
        assert list(await store.leftovers(1800.0, 10)) == [(UPLOAD, [old.token])]


async def test_huge_tree_is_scanned_over_several_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_ENTRIES_PER_CALL", 4)
    async with FileChunkStore(tmp_path, fsync=False) as store:
        kept = [
            (upload_id, (await keep(store, b"x", upload_id)).token)
            for upload_id in ("n1-a", "n1-b", "n1-c")
            for _ in range(3)
        ]
        seen: list[tuple[str, str]] = []
        for _ in range(3):
            named = await store.leftovers(0.0, 100)
            assert sum(len(tokens) for _, tokens in named) <= 4
            seen += [(upload_id, token) for upload_id, tokens in named for token in tokens]
        assert sorted(seen) == sorted(kept)


async def test_files_that_are_not_chunks_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "00" / UPLOAD).mkdir(parents=True)
    (tmp_path / "00" / UPLOAD / ".nfs0001").write_bytes(b"")
    (tmp_path / "00" / "lost+found").write_bytes(b"")
    async with FileChunkStore(tmp_path, fsync=False) as store:
        assert list(await store.leftovers(0.0, 10)) == []


async def test_store_without_writes_has_no_leftovers(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path / "absent", fsync=False) as store:
        assert list(await store.leftovers(0.0, 10)) == []
        await store.drop_upload(UPLOAD)


async def test_vanished_folder_is_created_again(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        first = await keep(store, b"x")
        shutil.rmtree(file_of(tmp_path, first).parent)
        assert await read(store, await keep(store, b"again")) == b"again"


async def test_file_that_cannot_be_removed_is_left_to_the_sweeper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlink(path: Path) -> None:
        raise OSError(errno.EIO, "no")

    async def send() -> None:
        async with store.stage(ChunkOffer(UPLOAD, 0, 0, "token")) as staged:
            await staged.append(b"x" * MIB)
            raise ConnectionError

    async with FileChunkStore(tmp_path, fsync=False) as store:
        with monkeypatch.context() as patch, structlog.testing.capture_logs() as logs:
            patch.setattr(os, "unlink", unlink)
            with pytest.raises(ConnectionError):
                await send()
        assert [entry["event"] for entry in logs] == ["staged_chunk.remove_failed"]
        assert list(await store.leftovers(0.0, 10)) == [(UPLOAD, ["token"])]
        await store.drop(UPLOAD, ["token"])
        assert list(tmp_path.rglob("token")) == []


async def test_chunk_dropped_during_the_scan_is_not_a_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        await keep(store, b"x")
        listdir = os.listdir

        def with_a_ghost(path: Path) -> list[str]:
            names = listdir(path)
            return [*names, "ghost"] if Path(path).name == UPLOAD else names

        monkeypatch.setattr(os, "listdir", with_a_ghost)
        ((upload_id, tokens),) = await store.leftovers(0.0, 10)
        assert upload_id == UPLOAD
        assert "ghost" not in tokens
