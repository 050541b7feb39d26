"""Packs of small chunks: crashes, freed space and leftovers."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_backends.disk import SMALL_BYTES
from sluice_backends.embedded.chunks import packs
from sluice_backends.embedded.chunks.pack_format import head, records
from sluice_backends.embedded.chunks.store import FileChunkStore
from sluice_core.errors import AlreadyExists, ResourceExhausted, Unavailable
from sluice_core.uploads.ids import new_token
from sluice_core.uploads.model import ChunkRef
from support.packed_chunks import UPLOAD, files, keep, keep_together, read, reason


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit packs to a few chunks."""
    monkeypatch.setattr(packs, "PACK_BYTES", 1000)
    monkeypatch.setattr(packs, "_BATCH_BYTES", 300)


SIZES = st.one_of(
    st.integers(0, 400), st.sampled_from([SMALL_BYTES - 1, SMALL_BYTES, SMALL_BYTES + 1])
)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(SIZES, min_size=1, max_size=12),
    together=st.booleans(),
    restarts=st.sets(st.integers(0, 24)),
    data=st.data(),
)
async def test_any_mix_of_chunks_reads_back_and_leaves_no_file(
    sizes: list[int], together: bool, restarts: set[int], data: st.DataObject
) -> None:
    contents = [bytes([number]) * size for number, size in enumerate(sizes)]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(packs, "PACK_BYTES", 1000)
        patch.setattr(packs, "_BATCH_BYTES", 300)
        root = Path(folder)
        async with FileChunkStore(root, fsync=False) as store:
            if together:
                chunks = await keep_together(store, *contents)
            else:
                chunks = [await keep(store, content) for content in contents]
        left = dict(zip(chunks, contents, strict=True))
        store = FileChunkStore(root, fsync=False)
        for step, chunk in enumerate(data.draw(st.permutations(chunks))):
            if step in restarts:
                await store.aclose()
                store = FileChunkStore(root, fsync=False)
            assert await read(store, *left) == b"".join(left.values())
            await store.drop(UPLOAD, [chunk.token])
            del left[chunk]
            if not restarts:
                assert await reason(store, chunk) == "CHUNK_MISSING"
        # What was dropped before a restart may be back; the sweeper drops it again.
        for _ in range(4):
            for upload_id, tokens in await store.leftovers(-1.0, 100):
                await store.drop(upload_id, tokens)
        assert files(root) == []
        assert list(root.rglob(UPLOAD)) == []
        await store.aclose()


# ------------------------------------------------------------------ crashes


async def test_torn_write_loses_only_the_chunk_being_written(
    tmp_path: Path,
) -> None:
    """A process dies after any byte of the write."""
    async with FileChunkStore(tmp_path, fsync=False) as store:
        first, second = await keep(store, b"first"), await keep(store, b"2" * 40)
        torn = await keep(store, b"torn")
    (pack,) = files(tmp_path)
    whole = pack.read_bytes()
    begins = len(whole) - len(head(torn.token, torn.size)) - torn.size
    for length in range(begins, len(whole)):
        pack.write_bytes(whole[:length])
        async with FileChunkStore(tmp_path, fsync=False) as store:
            assert await read(store, first, second) == b"first" + b"2" * 40
            assert await reason(store, torn) == "CHUNK_MISSING"


async def test_damaged_head_never_yields_other_bytes(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        chunks = [await keep(store, bytes([number]) * 20) for number in range(3)]
    (pack,) = files(tmp_path)
    whole = pack.read_bytes()
    begins = next(iter(records(pack))).offset + chunks[0].size
    for at in range(begins, begins + len(head(chunks[1].token, 20))):
        pack.write_bytes(whole[:at] + bytes([whole[at] ^ 0x11]) + whole[at + 1 :])
        async with FileChunkStore(tmp_path, fsync=False) as store:
            assert await read(store, chunks[0]) == bytes(20)
            assert await reason(store, chunks[1]) == "CHUNK_MISSING"
            assert await reason(store, chunks[2]) == "CHUNK_MISSING"


async def test_pack_of_another_process_is_never_appended_to(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        before = await keep(store, b"before")
    (old,) = files(tmp_path)
    os.truncate(old, old.stat().st_size - 1)
    size = old.stat().st_size
    async with FileChunkStore(tmp_path, fsync=False) as store:
        after = await keep(store, b"after")
        assert old.stat().st_size == size
    async with FileChunkStore(tmp_path, fsync=False) as store:
        assert await read(store, after) == b"after"
        assert await reason(store, before) == "CHUNK_MISSING"


async def test_drop_after_restart_removes_the_file(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        chunks = [await keep(store, b"x" * 100) for _ in range(5)]
    async with FileChunkStore(tmp_path, fsync=False) as store:
        await store.drop(UPLOAD, [chunk.token for chunk in chunks[:4]])
        assert await read(store, chunks[4]) == b"x" * 100
        await store.drop(UPLOAD, [chunks[4].token])
        assert files(tmp_path) == []


async def test_token_stays_in_use_across_a_restart(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        chunk = await keep(store, b"first")
    async with FileChunkStore(tmp_path, fsync=False) as store:
        with pytest.raises(AlreadyExists):
            await keep(store, b"second", token=chunk.token)
        assert await read(store, chunk) == b"first"


async def test_concurrent_attempts_with_one_token_keep_the_first(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        token = new_token()
        results = await asyncio.gather(
            keep(store, b"first", token=token),
            keep(store, b"other", token=token),
            return_exceptions=True,
        )
        assert isinstance(results[1], AlreadyExists)
        assert isinstance(results[0], ChunkRef)
        assert await read(store, results[0]) == b"first"


# ------------------------------------------------------------------ disk space


async def test_space_is_freed_while_the_upload_continues(tmp_path: Path, small_packs: None) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        chunks = [await keep(store, bytes([number]) * 300) for number in range(30)]
        assert len(files(tmp_path)) == 10
        await store.drop(UPLOAD, [chunk.token for chunk in chunks[:15]])
        assert len(files(tmp_path)) == 5
        assert await read(store, chunks[15]) == bytes([15]) * 300


async def test_pack_is_full_at_its_record_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "_PACK_RECORDS", 4)
    async with FileChunkStore(tmp_path, fsync=False) as store:
        for _ in range(9):
            await keep(store, b"")
        assert [len(list(records(path))) for path in files(tmp_path)] == [4, 4, 1]


@pytest.mark.parametrize("written", [0, 30, 70])
async def test_full_disk_fails_only_the_batch_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    write = os.write
    left = [written]

    def until_full(fd: int, data: bytes) -> int:
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "no")
        done = write(fd, data[: left[0]])
        left[0] -= done
        return done

    async with FileChunkStore(tmp_path, fsync=False) as store:
        kept = await keep(store, b"kept")
        (pack,) = files(tmp_path)
        size = pack.stat().st_size
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", until_full)
            with pytest.raises(ResourceExhausted) as caught:
                await keep(store, b"x" * 100)
        assert caught.value.reason == "DISK_FULL"
        assert pack.stat().st_size == size
        later = await keep(store, b"later")
        assert await read(store, kept, later) == b"keptlater"
        await store.drop(UPLOAD, [kept.token, later.token])
        assert files(tmp_path) == []


async def test_failed_pack_removal_is_retried_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unlink(path: Path) -> None:
        raise OSError(errno.EIO, "no")

    async with FileChunkStore(tmp_path, fsync=False) as store:
        chunk = await keep(store, b"x")
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", unlink)
            with pytest.raises(Unavailable):
                await store.drop(UPLOAD, [chunk.token])
        assert await reason(store, chunk) == "CHUNK_MISSING"
        assert len(files(tmp_path)) == 1
        assert list(await store.leftovers(-1.0, 10)) == []
        assert files(tmp_path) == []


# ------------------------------------------------------------------ leftovers


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_chunks_in_packs_are_leftovers_after_a_restart(
    tmp_path: Path, small_packs: None, limit: int
) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        kept = {(await keep(store, bytes(300))).token for _ in range(7)}
    async with FileChunkStore(tmp_path, fsync=False) as store:
        seen: list[str] = []
        for _ in range(7 if limit == 1 else 4 if limit == 2 else 1):
            for upload_id, tokens in await store.leftovers(-1.0, limit):
                assert upload_id == UPLOAD
                seen += tokens
        assert sorted(seen) == sorted(kept)


async def test_age_of_a_pack_is_that_of_its_last_chunk(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        old = await keep(store, b"old")
        (pack,) = files(tmp_path)
        hour_ago = time.time() - 3600
        os.utime(pack, (hour_ago, hour_ago))
        assert list(await store.leftovers(1800.0, 10)) == [(UPLOAD, [old.token])]
        await keep(store, b"young")
        assert list(await store.leftovers(1800.0, 10)) == []


async def test_pack_without_complete_records_is_removed(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        await keep(store, b"torn")
    (pack,) = files(tmp_path)
    os.truncate(pack, 10)
    async with FileChunkStore(tmp_path, fsync=False) as store:
        assert list(await store.leftovers(-1.0, 10)) == []
        assert files(tmp_path) == []
        assert list(tmp_path.rglob(UPLOAD)) == []
