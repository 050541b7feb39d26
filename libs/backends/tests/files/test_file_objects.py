"""Objects in files: crashes between any two steps, disk damage, ranges over any layout."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_backends.files.store import FileObjectStore
from sluice_core.errors import (
    DataLoss,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SluiceError,
    Unavailable,
)
from sluice_core.objects.body import ArrivingBody, BytesBody
from sluice_core.ports.object_store import ObjectAttributes, ObjectStore, PartTag
from sluice_core.uploads.model import MIB, ObjectRef

BUCKET = "sluice"
REF = ObjectRef(BUCKET, "tenant/drive/node-1")
PLAIN = ObjectAttributes("image/png", "COLD", "none")


class Killed(BaseException):
    """Simulated end of the process, without clean-up."""


@asynccontextmanager
async def opened(path: Path, *, fsync: bool = False) -> AsyncIterator[FileObjectStore]:
    async with FileObjectStore(path, fsync=fsync, min_part_bytes=1) as store:
        await store.check(BUCKET)
        yield store


async def read(store: ObjectStore, offset: int = 0, length: int = 1 << 40) -> bytes:
    return b"".join([block async for block in store.read(REF, offset, length)])


async def content(store: ObjectStore) -> bytes | None:
    """Return the object's bytes; check that `head` agrees."""
    info = await store.head(REF)
    if info is None:
        return None
    data = await read(store)
    assert info.size == len(data)
    return data


def arriving(data: bytes) -> ArrivingBody:
    return ArrivingBody(BytesBody(data).blocks(), size=len(data))


def files_below(path: Path) -> set[str]:
    return {file.name for file in path.rglob("*") if file.is_file()}


async def parts_of(store: ObjectStore, *contents: bytes) -> tuple[str, list[PartTag]]:
    multipart_id = await store.open_multipart(REF, PLAIN)
    return multipart_id, [
        await store.put_part(REF, multipart_id, number, BytesBody(data))
        for number, data in enumerate(contents, 1)
    ]


# ------------------------------------------------------------------ crashes

MOST_STEPS = 24
"""More than any operation below takes; the last kill comes too late."""

STEPS = ("rename", "unlink", "rmdir", "mkdir", "open")


@contextmanager
def killed_before_step(number: int, root: Path) -> Iterator[list[str]]:
    """End the process before its `number`th change to the tree (counted from 0).

    Every later change fails as well, so that no clean-up code can run. Yield the changes seen.
    """
    seen: list[str] = []

    def guarded(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(path: Any, *args: Any, **kwargs: Any) -> Any:
            changes = name != "open" or bool(args and args[0] & os.O_CREAT)
            inside = kwargs.get("dir_fd") is not None or str(root) in os.fspath(path)
            if changes and inside:
                seen.append(name)
                if len(seen) > number:
                    raise Killed
            return real(path, *args, **kwargs)

        return step

    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, guarded(name, getattr(os, name)))
        yield seen


async def put_new(store: ObjectStore) -> None:
    await store.put(REF, BytesBody(b"new"), PLAIN)


async def complete_new(store: ObjectStore) -> None:
    multipart_id, tags = await parts_of(store, b"n", b"-", b"w")
    tags[1] = await store.put_part(REF, multipart_id, 2, BytesBody(b"e"))
    await store.complete_multipart(REF, multipart_id, tags)


async def delete(store: ObjectStore) -> None:
    await store.delete(REF)


@pytest.mark.parametrize("step_number", range(MOST_STEPS))
@pytest.mark.parametrize("before", [None, b"old"])
@pytest.mark.parametrize("operation", [put_new, complete_new, delete])
async def test_crash_at_any_step_leaves_the_old_or_the_new_object(
    operation: Callable[[ObjectStore], Any],
    before: bytes | None,
    step_number: int,
    tmp_path: Path,
) -> None:
    root = tmp_path / "objects"
    async with opened(root) as store:
        if before is not None:
            await store.put(REF, BytesBody(before), PLAIN)
        with killed_before_step(step_number, root) as steps:
            try:
                await operation(store)
                survived = True
            except Killed:
                survived = False
    after = None if operation is delete else b"new"
    async with opened(root) as store:
        now = await content(store)
        assert now in ([after] if survived else [before, after])
        assert survived == (len(steps) <= step_number)
        assert survived or step_number < MOST_STEPS - 1
        # What the clean-up of an upload does (rule 25) leaves nothing at all.
        for multipart_id in await store.open_multiparts(REF):
            await store.abort_multipart(REF, multipart_id)
        await store.delete(REF)
        assert await content(store) is None
    assert files_below(root) == set()


@pytest.mark.parametrize("step_number", range(MOST_STEPS))
async def test_put_after_a_crash_leaves_one_generation(step_number: int, tmp_path: Path) -> None:
    root = tmp_path / "objects"
    async with opened(root) as store:
        await store.put(REF, BytesBody(b"old"), PLAIN)
        with killed_before_step(step_number, root), suppress(Killed):
            await put_new(store)
    async with opened(root) as store:
        await put_new(store)
        assert await content(store) == b"new"
    names = files_below(root)
    assert len(names) == 2
    assert "manifest.json" in names


@pytest.mark.parametrize("step_number", range(MOST_STEPS))
async def test_crash_while_receiving_leaves_all_or_nothing(
    step_number: int, tmp_path: Path
) -> None:
    """The client sends the body again, and finds it stored or stores it."""
    root = tmp_path / "objects"
    async with opened(root) as store:
        with killed_before_step(step_number, root), suppress(Killed):
            await store.receive(REF, arriving(b"new"), PLAIN)
    async with opened(root) as store:
        assert await content(store) in (None, b"new")
        info = await store.receive(REF, arriving(b"new"), PLAIN)
        assert await store.head(REF) == info
        assert await content(store) == b"new"
        await store.delete(REF)
    assert files_below(root) == set()


async def test_crash_after_completion_leaves_no_open_multipart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        multipart_id, tags = await parts_of(store, b"a", b"b")
        (mark,) = tmp_path.rglob("open.json")
        saved = mark.read_bytes()
        await store.complete_multipart(REF, multipart_id, tags)
        mark.write_bytes(saved)
        assert list(await store.open_multiparts(REF)) == []
        for call in (
            store.put_part(REF, multipart_id, 1, BytesBody(b"late")),
            store.complete_multipart(REF, multipart_id, tags[:1]),
        ):
            with pytest.raises(NotFound):
                await call
        await store.abort_multipart(REF, multipart_id)
        assert not mark.exists()
        assert await content(store) == b"ab"


async def test_later_of_two_files_of_one_part_is_listed(tmp_path: Path) -> None:
    # A crash between storing a part again and removing the first leaves both.
    async with opened(tmp_path) as store:
        multipart_id, _ = await parts_of(store, b"first")
        (file,) = tmp_path.rglob("00001-*")
        saved = file.read_bytes()
        second = await store.put_part(REF, multipart_id, 1, BytesBody(b"second"))
        file.write_bytes(saved)
        os.utime(file, (1, 1))
        assert list(await store.list_parts(REF, multipart_id)) == [second]
        await store.complete_multipart(REF, multipart_id, [second])
        assert await content(store) == b"second"
        assert not file.exists()


async def test_first_use_of_a_bucket_removes_leftovers(
    tmp_path: Path,
) -> None:
    """The leftovers are those of a killed process."""
    async with opened(tmp_path) as store:
        await store.put(REF, BytesBody(b"kept"), PLAIN)
    (tmp_path / BUCKET / "tmp" / "generation").mkdir()
    (tmp_path / BUCKET / "tmp" / "generation" / "part").write_bytes(b"x")
    (tmp_path / BUCKET / "tmp" / "file").write_bytes(b"x")
    async with FileObjectStore(tmp_path, fsync=False) as store:
        assert await content(store) == b"kept"
    assert list((tmp_path / BUCKET / "tmp").iterdir()) == []


async def test_last_reader_removes_a_replaced_generation(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put(REF, BytesBody(b"o" * MIB * 4), PLAIN)
        readers = [cast(Any, store.read(REF, 0, MIB * 4)) for _ in range(2)]
        for reader in readers:
            await anext(reader)
        await store.put(REF, BytesBody(b"new"), PLAIN)
        await readers[0].aclose()
        assert len(list(tmp_path.rglob("00001-*"))) == 2
        await readers[1].aclose()
        assert len(list(tmp_path.rglob("00001-*"))) == 1


# ------------------------------------------------------------------ damage


async def test_flipped_byte_fails_before_the_last_block(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put(REF, BytesBody(b"x" * MIB * 3), PLAIN)
        (file,) = tmp_path.rglob("00001-*")
        with file.open("r+b") as part:
            part.seek(MIB + 5)
            part.write(b"y")
        blocks = store.read(REF, 0, MIB * 3)
        for _ in range(2):
            assert len(await anext(blocks)) == MIB
        with pytest.raises(DataLoss) as caught:
            await anext(blocks)
        assert caught.value.reason == "OBJECT_DAMAGED"


@pytest.mark.parametrize("damage", ["truncated", "gone", "folder gone"])
async def test_lost_part_raises_object_damaged(damage: str, tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put(REF, BytesBody(b"x" * 100), PLAIN)
        (file,) = tmp_path.rglob("00001-*")
        if damage == "truncated":
            os.truncate(file, 50)
        else:
            file.unlink()
        if damage == "folder gone":
            file.parent.rmdir()
        with pytest.raises(DataLoss) as caught:
            await read(store, 40, 20)
        assert caught.value.reason == "OBJECT_DAMAGED"


async def test_truncated_part_is_neither_listed_nor_completed(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        multipart_id, tags = await parts_of(store, b"abc")
        (file,) = tmp_path.rglob("00001-*")
        os.truncate(file, 2)
        assert list(await store.list_parts(REF, multipart_id)) == []
        with pytest.raises(SluiceError) as caught:
            await store.complete_multipart(REF, multipart_id, tags)
        assert caught.value.reason == "INVALID_PART"


@pytest.mark.parametrize("data", [b"", b"{", b"{}", b"[]", b'{"format": 99}'])
async def test_damaged_manifest_raises_data_loss(data: bytes, tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put(REF, BytesBody(b"x"), PLAIN)
        (manifest,) = tmp_path.rglob("manifest.json")
        manifest.write_bytes(data)
        with pytest.raises(DataLoss) as caught:
            await store.head(REF)
        assert caught.value.reason == "MANIFEST_DAMAGED"


# ------------------------------------------------------------------ the disk says no


@pytest.mark.parametrize(
    ("error_number", "error", "reason"),
    [
        (28, ResourceExhausted, "DISK_FULL"),
        (5, Unavailable, "STORE_UNAVAILABLE"),
        (13, PermissionDenied, "STORE_DENIED"),
    ],
    ids=["full", "broken", "denied"],
)
async def test_disk_failure_raises_typed_error_and_leaves_nothing(
    error_number: int,
    error: type[SluiceError],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def write(fd: int, data: bytes) -> int:
        raise OSError(error_number, "no")

    async with opened(tmp_path) as store:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            with pytest.raises(error) as caught:
                await store.put(REF, BytesBody(b"x" * MIB), PLAIN)
        assert caught.value.reason == reason
        assert files_below(tmp_path) == set()
        await store.put(REF, BytesBody(b"now"), PLAIN)
        assert await content(store) == b"now"


async def test_attributes_survive_in_the_manifest(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        multipart_id, tags = await parts_of(store, b"x")
        await store.complete_multipart(REF, multipart_id, tags)
    (manifest,) = tmp_path.rglob("manifest.json")
    assert b'"content_type":"image/png","storage_class":"COLD"' in manifest.read_bytes()


@pytest.mark.parametrize("bucket", ["", "..", ".", "a/b", "a\0b", "b" * 64, "a."])
async def test_bucket_name_that_could_escape_the_root_is_rejected(
    bucket: str, tmp_path: Path
) -> None:
    async with FileObjectStore(tmp_path, fsync=False) as store:
        with pytest.raises(InvalidArgument) as caught:
            await store.check(bucket)
    assert caught.value.reason == "BAD_BUCKET"


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1)])
async def test_negative_range_is_rejected(offset: int, length: int, tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put(REF, BytesBody(b"x"), PLAIN)
        with pytest.raises(InvalidArgument):
            await read(store, offset, length)


# ------------------------------------------------------------------ ranges over part layouts


@settings(max_examples=40, deadline=None)
@given(
    contents=st.lists(st.binary(max_size=40), min_size=1, max_size=8).filter(
        lambda parts: all(parts[:-1])
    ),
    ranges=st.lists(st.tuples(st.integers(0, 250), st.integers(0, 250)), min_size=1, max_size=5),
)
async def test_any_range_of_any_part_layout_reads_correctly(
    contents: list[bytes], ranges: list[tuple[int, int]]
) -> None:
    whole = b"".join(contents)
    with tempfile.TemporaryDirectory() as folder:
        async with opened(Path(folder)) as store:
            multipart_id, tags = await parts_of(store, *contents)
            await store.complete_multipart(REF, multipart_id, tags)
            for offset, length in ranges:
                assert await read(store, offset, length) == whole[offset : offset + length]
