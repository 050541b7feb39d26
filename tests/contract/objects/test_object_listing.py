"""Contract of object stores: listings by prefix, in pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice_backends.files.store import FileObjectStore
from sluice_core.errors import NotFound
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import ObjectStore
from sluice_core.uploads.model import ObjectRef
from support.object_stores import BUCKET, PLAIN


async def listed(store: ObjectStore, prefix: str, limit: int) -> dict[str, int]:
    """Return the size of each object by its key; each is listed once."""
    found: dict[str, int] = {}
    after = ""
    while True:
        page = await store.list_objects(BUCKET, prefix, limit, after)
        assert len(page.objects) <= limit
        for each in page.objects:
            assert each.ref.bucket == BUCKET
            assert each.ref.key not in found
            found[each.ref.key] = each.size
        after = page.next_after
        if not after:
            return found


async def test_pages_of_a_prefix_hold_each_object_once(any_store: ObjectStore) -> None:
    sizes = {f"list/a/{number} é+&": number for number in range(5)}
    for key, size in {**sizes, "list/ab": 9, "list/b/0": 9}.items():
        await any_store.put(ObjectRef(BUCKET, key), BytesBody(bytes(size)), PLAIN)
    assert await listed(any_store, "list/a/", 2) == sizes
    assert await listed(any_store, "list/a/", 5) == sizes
    await any_store.delete(ObjectRef(BUCKET, "list/ab"))
    assert set(await listed(any_store, "list/", 1000)) == {*sizes, "list/b/0"}
    assert await listed(any_store, "list/nothing/", 2) == {}


async def test_files_are_read_beside_their_owner(tmp_path: Path) -> None:
    """A reader removes nothing of the owner's, and makes no bucket."""
    ref = ObjectRef(BUCKET, "list/file")
    async with (
        FileObjectStore(tmp_path, fsync=False) as owner,
        FileObjectStore(tmp_path, fsync=False, beside_owner=True) as reader,
    ):
        with pytest.raises(NotFound):
            await reader.check(BUCKET)
        await owner.check(BUCKET)
        await owner.put(ref, BytesBody(b"content"), PLAIN)
        underway = tmp_path / BUCKET / "tmp" / "being-written"
        underway.write_bytes(b"half")
        await reader.check(BUCKET)
        assert await reader.head(ref) == await owner.head(ref)
        assert await listed(reader, "list/", 10) == {"list/file": 7}
        assert underway.exists()
