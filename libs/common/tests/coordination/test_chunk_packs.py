"""Small chunks in packs: what survives a crash, when space comes back, what is written once."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_common.coordination.embedded import packs
from sluice_common.coordination.embedded.chunks import FileChunkStore
from sluice_common.coordination.embedded.pack_format import head, records
from sluice_common.disk import SMALL_BYTES
from sluice_common.errors import Aborted, AlreadyExists, DataLoss, ResourceExhausted, Unavailable
from sluice_common.uploads.checksums import crc32c
from sluice_common.uploads.ids import new_token
from sluice_common.uploads.model import ChunkRef

UPLOAD = "n1-upload"


async def keep(
    store: FileChunkStore, data: bytes, upload_id: str = UPLOAD, token: str = ""
) -> ChunkRef:
    token = token or new_token()
    async with store.stage(upload_id, token) as staged:
        await staged.append(data)
        await staged.seal()
    return ChunkRef(0, len(data), crc32c(data), token)


async def keep_together(store: FileChunkStore, *contents: bytes) -> list[ChunkRef]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(keep(store, data)) for data in contents]
    return [task.result() for task in tasks]


async def read(store: FileChunkStore, *chunks: ChunkRef) -> bytes:
    return b"".join([block async for block in store.read_many(UPLOAD, chunks)])


async def reason(store: FileChunkStore, chunk: ChunkRef) -> str:
    with pytest.raises(DataLoss) as caught:
        await read(store, chunk)
    return caught.value.reason


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack is full after a few chunks."""
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


async def test_a_write_cut_off_at_any_byte_costs_only_the_chunk_being_written(
    tmp_path: Path,
) -> None:
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


async def test_a_damaged_head_never_gives_other_bytes(tmp_path: Path) -> None:
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


async def test_a_pack_of_another_process_is_never_appended_to(tmp_path: Path) -> None:
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


async def test_dropping_after_a_restart_frees_the_file(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        chunks = [await keep(store, b"x" * 100) for _ in range(5)]
    async with FileChunkStore(tmp_path, fsync=False) as store:
        await store.drop(UPLOAD, [chunk.token for chunk in chunks[:4]])
        assert await read(store, chunks[4]) == b"x" * 100
        await store.drop(UPLOAD, [chunks[4].token])
        assert files(tmp_path) == []


async def test_a_token_is_used_once_across_a_restart(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        chunk = await keep(store, b"first")
    async with FileChunkStore(tmp_path, fsync=False) as store:
        with pytest.raises(AlreadyExists):
            await keep(store, b"second", token=chunk.token)
        assert await read(store, chunk) == b"first"


async def test_of_two_attempts_at_once_with_one_token_the_first_is_kept(tmp_path: Path) -> None:
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


async def test_space_comes_back_while_the_upload_goes_on(tmp_path: Path, small_packs: None) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        chunks = [await keep(store, bytes([number]) * 300) for number in range(30)]
        assert len(files(tmp_path)) == 10
        await store.drop(UPLOAD, [chunk.token for chunk in chunks[:15]])
        assert len(files(tmp_path)) == 5
        assert await read(store, chunks[15]) == bytes([15]) * 300


async def test_a_pack_is_full_after_so_many_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "_PACK_RECORDS", 4)
    async with FileChunkStore(tmp_path, fsync=False) as store:
        for _ in range(9):
            await keep(store, b"")
        assert [len(list(records(path))) for path in files(tmp_path)] == [4, 4, 1]


@pytest.mark.parametrize("written", [0, 30, 70])
async def test_a_full_disk_costs_what_was_being_written_and_nothing_else(
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


async def test_a_pack_that_could_not_be_removed_goes_with_the_next_look(
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


# ------------------------------------------------------------------ together


@pytest.mark.parametrize("fsync", [False, True])
async def test_chunks_that_come_together_are_written_and_synced_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool
) -> None:
    calls: Counter[str] = Counter()
    write, sync = os.write, os.fsync

    def counted_write(fd: int, data: bytes) -> int:
        calls["write"] += 1
        return write(fd, data)

    def counted_sync(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".pack"):
            calls["fsync"] += 1
        sync(fd)

    async with FileChunkStore(tmp_path, fsync=fsync) as store:
        stays = await keep(store, b"there")
        monkeypatch.setattr(os, "write", counted_write)
        monkeypatch.setattr(os, "fsync", counted_sync)
        chunks = await keep_together(store, *(bytes([number]) * 50 for number in range(200)))
        # The event loop's own wake-ups are writes, too, so not every write is of a chunk.
        assert calls["fsync"] <= (20 if fsync else 0)
        assert calls["write"] < 100
        assert await read(store, stays, *chunks) == b"there" + b"".join(
            bytes([number]) * 50 for number in range(200)
        )


async def test_seal_waits_for_the_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_sync = threading.Event()
    sync = os.fsync

    def slow(fd: int) -> None:
        may_sync.wait(5)
        sync(fd)

    async with FileChunkStore(tmp_path, fsync=True) as store:
        monkeypatch.setattr(os, "fsync", slow)
        sender = asyncio.create_task(keep(store, b"x"))
        done, _ = await asyncio.wait([sender], timeout=0.2)
        assert not done
        may_sync.set()
        assert await read(store, await sender) == b"x"


async def test_one_upload_does_not_wait_for_anothers_write(
    tmp_path: Path, stuck_write: threading.Event
) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        stuck = asyncio.create_task(keep(store, b"stuck"))
        async with asyncio.timeout(4):
            await keep(store, b"other", upload_id="n1-other")
        assert not stuck.done()
        stuck_write.set()
        await stuck


@pytest.fixture
def stuck_write(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Writes of chunks with the text "stuck" wait for this event."""
    go_on = threading.Event()
    write = os.write

    def stuck(fd: int, data: bytes) -> int:
        if b"stuck" in data:
            go_on.wait(10)
        return write(fd, data)

    monkeypatch.setattr(os, "write", stuck)
    yield go_on
    go_on.set()


@pytest.mark.parametrize("first", ["being written", "waiting"])
async def test_a_cancelled_seal_keeps_nothing_and_harms_no_other(
    tmp_path: Path, stuck_write: threading.Event, first: str
) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        written = asyncio.create_task(keep(store, b"stuck"))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(keep(store, b"next"))
        await asyncio.sleep(0.1)
        cancelled, other = (written, waiting) if first == "being written" else (waiting, written)
        cancelled.cancel()
        await asyncio.sleep(0.1)
        assert not cancelled.done()  # its bytes are on their way: they are removed afterwards
        stuck_write.set()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        chunk = await other
        assert {token for _, tokens in await store.leftovers(-1.0, 9) for token in tokens} == {
            chunk.token
        }
        await store.drop(UPLOAD, [chunk.token])
        assert files(tmp_path) == []


async def test_dropping_the_upload_ends_what_is_being_written(
    tmp_path: Path, stuck_write: threading.Event
) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        senders = [asyncio.create_task(keep(store, b"stuck"))]
        await asyncio.sleep(0.1)
        senders.append(asyncio.create_task(keep(store, b"next")))
        await asyncio.sleep(0.1)
        await store.drop_upload(UPLOAD)
        stuck_write.set()
        for sender in senders:
            with pytest.raises(Aborted) as caught:
                await sender
            assert caught.value.reason == "STAGING_DROPPED"
        assert files(tmp_path) == []
        again = await keep(store, b"again")
        assert await read(store, again) == b"again"


async def test_a_store_that_was_closed_takes_nothing(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        pass
    with pytest.raises(RuntimeError):
        async with store.stage(UPLOAD, "token") as staged:
            await staged.seal()


async def test_chunks_are_read_in_few_trips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        contents = [bytes([number % 251]) * 4096 for number in range(600)]
        chunks = await keep_together(store, *contents)
        blocks = [block async for block in store.read_many(UPLOAD, chunks)]
    assert b"".join(blocks) == b"".join(contents)
    assert len(blocks) == 3


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


async def test_a_pack_is_as_old_as_its_last_chunk(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        old = await keep(store, b"old")
        (pack,) = files(tmp_path)
        hour_ago = time.time() - 3600
        os.utime(pack, (hour_ago, hour_ago))
        assert list(await store.leftovers(1800.0, 10)) == [(UPLOAD, [old.token])]
        await keep(store, b"young")
        assert list(await store.leftovers(1800.0, 10)) == []


async def test_a_pack_in_which_nothing_was_finished_is_cleared_away(tmp_path: Path) -> None:
    async with FileChunkStore(tmp_path, fsync=False) as store:
        await keep(store, b"torn")
    (pack,) = files(tmp_path)
    os.truncate(pack, 10)
    async with FileChunkStore(tmp_path, fsync=False) as store:
        assert list(await store.leftovers(-1.0, 10)) == []
        assert files(tmp_path) == []
        assert list(tmp_path.rglob(UPLOAD)) == []
