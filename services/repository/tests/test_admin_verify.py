"""`admin verify`: every kind of defect of a drive, and what is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_backends.files.store import FileObjectStore
from sluice_core.errors import NotFound, Unavailable
from sluice_core.objects.body import BytesBody
from sluice_core.ports.catalogue import DrivePolicy, ObjectIntent
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.model import ObjectRef
from sluice_repository.admin import verify
from sluice_repository.admin.report import Report
from sluice_repository.admin.verify import DriveCheck, VerifyOptions
from support.admin import Line, admin_backends, as_json, of_kind, printed
from support.roles import BUCKET, DRIVE, HOUR, TENANT, Upload, World, pieces

CHUNKS = pieces(2_300, 500)


async def completed(world: World, *paths: str) -> list[Upload]:
    uploads = [await world.upload(CHUNKS, path) for path in paths]
    await world.work()
    return uploads


async def run(
    world: World,
    *,
    reads_bytes: bool = False,
    after: str = "",
    stop: asyncio.Event | None = None,
    report: Report | None = None,
) -> bool:
    options = VerifyOptions(TENANT, DRIVE, reads_bytes, after)
    check = DriveCheck(admin_backends(world), report or as_json(), stop or asyncio.Event(), options)
    return await check.run()


def defects(lines: list[Line]) -> dict[str, str]:
    """Return the defects by path, or by key without one."""
    return {line["path"] or line["key"]: line["defect"] for line in of_kind(lines, "defect")}


def folder_of(root: Path, upload: Upload) -> Path:
    (folder,) = (
        path.parent
        for path in (root / "objects").rglob("manifest.json")
        if upload.new.node_id in path.read_text()
    )
    return folder


def damage(root: Path, upload: Upload) -> None:
    """Change one byte of the object on the disk, whose size and recorded checksum stay."""
    folder = folder_of(root, upload)
    part = next(
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    )
    data = bytearray(part.read_bytes())
    data[0] ^= 0xFF
    part.write_bytes(data)


async def put(world: World, key: str, content: bytes = b"orphan") -> ObjectRef:
    ref = ObjectRef(BUCKET, key)
    await world.objects.put(ref, BytesBody(content), ObjectAttributes())
    return ref


async def test_every_defect_is_found_once(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("damaged", "missing", "shorter", "sound")
    uploads = dict(zip(names, await completed(world, *names), strict=True))
    assert await run(world, reads_bytes=True)
    (summary,) = of_kind(printed(capsys), "verified")
    assert (summary["nodes"], summary["bytes"], summary["bytes_read"]) == (4, 9_200, True)

    damage(tmp_path, uploads["damaged"])
    await world.objects.delete(uploads["missing"].new.object)
    await put(world, uploads["shorter"].new.object.key)
    orphan = await put(world, f"{TENANT}/{DRIVE}/orphan")
    await put(world, f"{TENANT}/{DRIVE}-2/of-another-drive")
    assert not await run(world, reads_bytes=True)
    assert defects(printed(capsys)) == {
        "damaged": "DAMAGED",
        "missing": "MISSING",
        "shorter": "WRONG_SIZE",
        orphan.key: "ORPHAN",
    }
    # The damage shows only when bytes are read: the store has recorded their former checksum.
    assert not await run(world)
    assert "damaged" not in defects(printed(capsys))


async def test_object_with_another_recorded_checksum(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    (upload,) = await completed(world, "other")
    await put(world, upload.new.object.key, bytes(2_300))
    assert not await run(world)
    assert defects(printed(capsys)) == {"other": "WRONG_CHECKSUM"}


async def test_damaged_description_hides_no_other_defect(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store cannot say of which drive the object is, so a run over another one names it too."""
    first, second, _ = await completed(world, "first", "second", "third")
    folder = folder_of(tmp_path, first)
    (folder / "manifest.json").write_text("{")
    await world.objects.delete(second.new.object)
    orphan = await put(world, f"{TENANT}/{DRIVE}/orphan")
    place = str(folder.relative_to(tmp_path / "objects" / BUCKET))
    assert not await run(world)
    lines = printed(capsys)
    assert defects(lines) == {
        "first": "DAMAGED",
        "second": "MISSING",
        orphan.key: "ORPHAN",
        place: "UNREADABLE",
    }
    assert of_kind(lines, "verified")[0]["nodes"] == 3


async def test_missing_bucket(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some stores make the bucket of a drive with its first object."""
    await world.catalogue.create_drive(TENANT, "empty", "of-its-own", "", DrivePolicy())
    options = VerifyOptions(TENANT, "empty")
    check = DriveCheck(admin_backends(world), as_json(), asyncio.Event(), options)
    assert await check.run()
    await completed(world, "a")
    async with FileObjectStore(tmp_path / "lost", fsync=False) as lost:
        backends = replace(admin_backends(world), objects=lost)
        options = VerifyOptions(TENANT, DRIVE)
        assert not await DriveCheck(backends, as_json(), asyncio.Event(), options).run()
    assert defects(printed(capsys)) == {"a": "MISSING"}


async def test_objects_in_use_are_no_orphans(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    (deleted,) = await completed(world, "deleted")
    await world.catalogue.delete_node(TENANT, deleted.new.node_id)  # scheduled for deletion
    opened = await put(world, f"{TENANT}/{DRIVE}/opened")
    await world.catalogue.record_intent(
        ObjectIntent("an-upload", TENANT, opened, "", world.clock.now)
    )
    assert await run(world)
    assert of_kind(printed(capsys), "verified")[0]["nodes"] == 0
    # The sweeper removes what nobody completes, and then there is nothing to find.
    world.clock.advance(2 * HOUR)
    await world.sweeper.sweep()
    assert await run(world)
    assert not defects(printed(capsys))


async def test_node_that_ends_during_the_run_is_no_defect(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    (upload,) = await completed(world, "ends")

    async def end() -> None:
        del world.objects.on_call["head"]
        await world.catalogue.delete_node(TENANT, upload.new.node_id)
        await world.objects.delete(upload.new.object)

    world.objects.on_call["head"] = end
    assert await run(world)
    assert not defects(printed(capsys))


async def test_interrupted_run_continues_after_a_path(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "NODES_PAGE", 2)
    monkeypatch.setattr(verify, "OBJECTS_PAGE", 2)
    monkeypatch.setattr(verify, "CONCURRENT_HEADS", 1)
    stop = asyncio.Event()
    uploads = await completed(world, "a", "b\x1b", "c", "d")
    await world.objects.delete(uploads[3].new.object)
    heads = 0

    async def stop_at_the_third() -> None:
        nonlocal heads
        heads += 1
        if heads == 3:
            stop.set()

    world.objects.on_call["head"] = stop_at_the_third
    assert not await run(world, stop=stop)
    out, err = capsys.readouterr()
    assert '"interrupted"' in out
    assert "2 nodes checked" in err
    assert "continue with --after 'b\\x1b'" in err
    del world.objects.on_call["head"]
    assert not await run(world, after="b\x1b")
    lines = printed(capsys)
    assert defects(lines) == {"d": "MISSING"}
    assert of_kind(lines, "verified")[0]["nodes"] == 2


async def test_interruption_waits_for_no_whole_object(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await completed(world, "of-three-blocks")
    stop, blocks = asyncio.Event(), 0
    real = world.deps.objects

    class Stops:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        async def read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
            nonlocal blocks
            async for block in real.read(ref, offset, length):
                blocks += 1
                stop.set()
                yield block

    backends = replace(admin_backends(world), objects=Stops())  # type: ignore[arg-type]
    options = VerifyOptions(TENANT, DRIVE, reads_bytes=True)
    assert not await DriveCheck(backends, as_json(), stop, options).run()
    assert blocks == 1
    lines = printed(capsys)
    assert not defects(lines)
    assert of_kind(lines, "interrupted")[0]["nodes"] == 0


async def test_store_that_is_away_is_no_defect(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await completed(world, "a")
    away = Unavailable("STORE_UNAVAILABLE", "The store is away.")
    world.objects.before["head"] = [away]
    with pytest.raises(ExceptionGroup) as errors:
        await run(world)
    assert errors.group_contains(Unavailable)
    assert not defects(printed(capsys))


async def test_unknown_drive(world: World) -> None:
    options = VerifyOptions(TENANT, "nonexistent")
    with pytest.raises(NotFound):
        await DriveCheck(admin_backends(world), as_json(), asyncio.Event(), options).run()
