"""Adoption: objects stored without an upload become nodes, all others do not."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sluice_core.catalogue.processing import ProcessingState
from sluice_core.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from sluice_core.objects.marks import path_mark, trace_mark, upload_mark
from sluice_core.ports.catalogue import DrivePolicy, ObjectIntent
from sluice_core.ports.object_store import ObjectInfo
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.ids import event_id, new_node_id
from sluice_core.uploads.model import Integrity, ObjectRef
from sluice_processor.nodes.handler import NodeProcessor, Outcome, Work
from sluice_processor.nodes.keys import place_of
from sluice_processor.options import ProcessorOptions
from support.commits import BUCKET, DRIVE, TENANT, finished_upload
from support.faulty_objects import FaultyObjects
from support.pictures import as_stored, exif, quadrants, saved
from support.processor import IMAGES, Darkroom, darkroom

PHOTO = saved(as_stored(quadrants(), 6), "JPEG", quality=92, exif=exif(6))
PROCESSED = Outcome("processed")


@dataclass
class Direct:
    """Store with objects that clients put directly; without checksums unless `has_checksums`."""

    room: Darkroom
    objects: FaultyObjects
    marks: dict[ObjectRef, Mapping[str, str]] = field(default_factory=dict)
    content_type: str = "image/jpeg"
    has_checksums: bool = False

    def __post_init__(self) -> None:
        head = self.objects.head

        async def marked(ref: ObjectRef) -> ObjectInfo | None:
            info = await head(ref)
            if info is None:
                return None
            crc = info.crc32c if self.has_checksums else None
            return replace(
                info, crc32c=crc, content_type=self.content_type, metadata=self.marks.get(ref, {})
            )

        self.objects.head = marked  # type: ignore[method-assign]

    async def put(
        self,
        content: bytes = PHOTO,
        marks: Mapping[str, str] | None = None,
        *,
        node_id: str = "",
        prefix: str = "pre/",
    ) -> ObjectRef:
        ref = ObjectRef(BUCKET, f"{prefix}{TENANT}/{DRIVE}/{node_id or new_node_id()}")
        self.marks[ref] = marks or {}
        await self.room.put(ref, content)
        return ref

    async def notify(self, ref: ObjectRef, *, events_follow: bool = False) -> Outcome:
        options = replace(self.room.deps.options, events_follow=events_follow)
        return await NodeProcessor(replace(self.room.deps, options=options)).process(work_for(ref))

    async def events(self) -> list[str]:
        rows = await self.room.catalogue.outbox(1000)
        return sorted(row.event.type.rpartition(".")[2] for row in rows)


def work_for(ref: ObjectRef) -> Work:
    place = place_of(ref)
    assert place is not None
    return Work("", place.node_id, since=1.0, place=place)


def id_of(ref: ObjectRef) -> str:
    return ref.key.rpartition("/")[2]


@pytest.fixture
async def direct(tmp_path: Path) -> AsyncIterator[Direct]:
    options = ProcessorOptions(images=IMAGES, bucket=BUCKET)
    async with darkroom(tmp_path, options) as room:
        yield Direct(room, room.objects)


@pytest.mark.rule(14, 19)
async def test_direct_object_becomes_a_processed_node(direct: Direct) -> None:
    ref = await direct.put(PHOTO, path_mark("2026/Grüße & Küsse.jpg"))
    assert await direct.notify(ref) == PROCESSED
    node = await direct.room.catalogue.find_node(TENANT, DRIVE, "2026/Grüße & Küsse.jpg")
    assert (node.node_id, node.object) == (id_of(ref), ref)
    assert (node.size, node.crc32c, node.content_type) == (len(PHOTO), crc32c(PHOTO), "image/jpeg")
    assert node.sha256 == hashlib.sha256(PHOTO).digest()
    found = (await direct.room.catalogue.processing_of(TENANT, [node.node_id]))[node.node_id]
    assert (found.state, len(found.thumbnails)) == (ProcessingState.PROCESSED, 2)
    assert await direct.events() == ["NodeProcessed", "UploadCompleted"]
    (completed,) = await direct.room.events("UploadCompleted")
    assert completed.event_id == event_id(node.node_id, "UploadCompleted", 2)


async def test_object_continues_the_trace_of_its_url(direct: Direct) -> None:
    trace = f"00-{'ab' * 16}-{'cd' * 8}-01"
    ref = await direct.put(PHOTO, {**path_mark("a.jpg"), **trace_mark(trace)})
    assert await direct.notify(ref) == PROCESSED
    (completed,) = await direct.room.events("UploadCompleted")
    assert completed.headers["traceparent"] == trace


async def test_object_without_path_is_named_by_its_id(direct: Direct) -> None:
    ref = await direct.put()
    assert await direct.notify(ref) == PROCESSED
    assert (await direct.room.catalogue.get_node(TENANT, id_of(ref))).path == id_of(ref)


async def test_invalid_path_is_invalid_argument(direct: Direct) -> None:
    for mark in ("not Base64!", "Li4vLi4vZXRj", "_w"):  # the second is ../../etc
        ref = await direct.put(marks={"sluice-path": mark})
        with pytest.raises(InvalidArgument) as refused:
            await direct.notify(ref)
        assert refused.value.reason == "BAD_PATH"
        assert mark not in refused.value.message
    assert await direct.events() == []


async def test_repeated_notification_is_a_noop(direct: Direct) -> None:
    ref = await direct.put()
    outcomes = [await direct.notify(ref) for _ in range(3)]
    assert outcomes == [PROCESSED, Outcome("repeated"), Outcome("repeated")]
    assert await direct.events() == ["NodeProcessed", "UploadCompleted"]
    assert direct.room.decoder.calls == 1


@pytest.mark.rule(19, 23)
async def test_concurrent_adoptions_make_one_node_and_its_events_once(
    direct: Direct,
) -> None:
    """Both processes read the object before either creates the node."""
    ref = await direct.put(PHOTO, path_mark("a.jpg"))
    both = asyncio.Barrier(2)
    catalogue = direct.room.catalogue
    adopt = catalogue.adopt_object

    async def together(commit: object) -> object:
        await both.wait()
        return await adopt(commit)  # type: ignore[arg-type]

    catalogue.adopt_object = together  # type: ignore[method-assign, assignment]
    outcomes = await asyncio.gather(*(direct.notify(ref) for _ in range(2)))
    assert PROCESSED in outcomes
    assert await direct.events() == ["NodeProcessed", "UploadCompleted"]
    assert len((await catalogue.list_nodes(TENANT, DRIVE, "", 10, "")).nodes) == 1


async def test_adopted_node_is_left_to_its_event_where_events_follow(direct: Direct) -> None:
    ref = await direct.put()
    assert await direct.notify(ref, events_follow=True) == Outcome("adopted")
    assert await direct.events() == ["UploadCompleted"]
    event = Work(TENANT, id_of(ref))
    assert await NodeProcessor(direct.room.deps).process(event) == PROCESSED
    assert await direct.notify(ref, events_follow=True) == Outcome("repeated")
    assert direct.room.decoder.calls == 1


async def test_an_event_and_a_notification_of_one_node_give_one_result(direct: Direct) -> None:
    commit = await direct.room.upload(PHOTO)
    ref = ObjectRef(BUCKET, f"pre/{TENANT}/{DRIVE}/{commit.node_id}")
    assert commit.object != ref
    assert await direct.notify(ref) == Outcome("gone")  # another object than the node's
    event = Work(TENANT, commit.node_id)
    notified = Work("", commit.node_id, place=place_of(commit.object))
    outcomes = await asyncio.gather(
        *(NodeProcessor(direct.room.deps).process(work) for work in (event, notified))
    )
    assert sorted(outcome.kind for outcome in outcomes) == ["processed", "repeated"]
    assert len(await direct.room.events("NodeProcessed")) == 1


# -- objects of uploads


@pytest.mark.rule(13)
async def test_object_of_unfinished_upload_gets_no_node(direct: Direct) -> None:
    """The notification precedes the commit. An upload of a release without object marks is known
    by its intent; the commit then finds its path free and its node absent."""
    commit = finished_upload("a.jpg", content=PHOTO)
    ref = await direct.put(PHOTO, node_id=commit.node_id)
    commit = replace(commit, object=ref)
    intent = ObjectIntent(commit.upload_id, TENANT, ref, "", 1.0)
    await direct.room.catalogue.record_intent(intent)
    assert await direct.notify(ref, events_follow=True) == Outcome("announced")
    with pytest.raises(NotFound):
        await direct.room.catalogue.get_node(TENANT, commit.node_id)
    assert (await direct.room.catalogue.commit_node(commit)).created
    assert await direct.notify(ref) == PROCESSED
    assert (await direct.room.catalogue.get_node(TENANT, commit.node_id)).path == "a.jpg"
    assert await direct.events() == ["NodeProcessed", "NodeVerified", "UploadCompleted"]


@pytest.mark.rule(25)
async def test_object_of_an_upload_is_never_adopted(
    direct: Direct,
) -> None:
    """Not even if the upload was aborted and cleaned up, and a late PUT recreated the object."""
    ref = await direct.put(PHOTO, upload_mark("nonce-1"))
    assert await direct.notify(ref, events_follow=True) == Outcome("announced")
    assert await direct.events() == []


async def test_early_notification_is_retried_where_no_events_follow(
    direct: Direct,
) -> None:
    commit = finished_upload("a.jpg", content=PHOTO)
    ref = await direct.put(PHOTO, upload_mark(commit.upload_id), node_id=commit.node_id)
    with pytest.raises(Aborted) as ahead:
        await direct.notify(ref)
    assert ahead.value.reason == "UPLOAD_UNDER_WAY"
    await direct.room.catalogue.commit_node(replace(commit, object=ref))
    assert await direct.notify(ref) == PROCESSED


@pytest.mark.rule(19)
async def test_deleted_node_is_not_recreated(direct: Direct) -> None:
    ref = await direct.put()
    await direct.notify(ref)
    await direct.room.catalogue.delete_node(TENANT, id_of(ref))
    assert await direct.notify(ref) == Outcome("gone")
    assert (await direct.room.catalogue.list_nodes(TENANT, DRIVE, "", 10, "")).nodes == ()


async def test_overwritten_object_does_not_change_the_node(direct: Direct) -> None:
    ref = await direct.put()
    await direct.notify(ref)
    await direct.room.put(ref, PHOTO[:-1] + b"?")
    with pytest.raises(FailedPrecondition) as refused:
        await direct.notify(ref)
    assert refused.value.reason == "CHECKSUM_MISMATCH"
    node = await direct.room.catalogue.get_node(TENANT, id_of(ref))
    assert (node.size, node.crc32c) == (len(PHOTO), crc32c(PHOTO))
    found = (await direct.room.catalogue.processing_of(TENANT, [id_of(ref)]))[id_of(ref)]
    assert (found.state, found.reason) == (ProcessingState.FAILED, "CHECKSUM_MISMATCH")
    assert len(await direct.room.events("UploadCompleted")) == 1


# -- forged keys


async def test_deleted_object_is_no_error(direct: Direct) -> None:
    ref = ObjectRef(BUCKET, f"pre/{TENANT}/{DRIVE}/{new_node_id()}")
    assert await direct.notify(ref) == Outcome("gone")


@pytest.mark.parametrize(
    ("bucket", "key", "reason"),
    [
        (BUCKET, "pre/acme/unknown/{id}", "NO_DRIVE"),
        (BUCKET, "pre/other/photos/{id}", "NO_DRIVE"),
        (BUCKET, "acme/photos/{id}", "NO_DRIVE"),
        (BUCKET, "else/acme/photos/{id}", "NO_DRIVE"),
        (BUCKET, "pre/pre/acme/photos/{id}", "NO_DRIVE"),
        ("elsewhere", "pre/acme/photos/{id}", "NO_DRIVE"),
        (BUCKET, "pre/acme/photos/holiday", "BAD_NODE_ID"),
        (BUCKET, "pre/acme/photos/019AB1C2-0000-7000-8000-000000000001", "BAD_NODE_ID"),
    ],
)
async def test_object_outside_of_drives_is_ignored(
    direct: Direct, bucket: str, key: str, reason: str
) -> None:
    ref = ObjectRef(bucket, key.replace("{id}", new_node_id()))
    await direct.room.store.check(bucket)
    await direct.room.put(ref, PHOTO)
    assert await direct.notify(ref) == Outcome("ignored", reason)
    assert await direct.events() == []


async def test_prefix_without_slash_and_default_bucket_are_supported(
    direct: Direct,
) -> None:
    catalogue = direct.room.catalogue
    await catalogue.create_drive(TENANT, "loose", "", "loose-", DrivePolicy())
    ref = ObjectRef(BUCKET, f"loose-{TENANT}/loose/{new_node_id()}")
    await direct.room.put(ref, PHOTO)
    assert await direct.notify(ref) == PROCESSED
    # From here on the key is ambiguous: it may belong to another tenant.
    await catalogue.create_drive(f"loose-{TENANT}", "loose", "", "", DrivePolicy())
    other = ObjectRef(BUCKET, f"loose-{TENANT}/loose/{new_node_id()}")
    await direct.room.put(other, PHOTO)
    assert await direct.notify(other) == Outcome("ignored", "NO_DRIVE")


# -- checksums


async def test_object_with_stored_checksum_is_not_read(direct: Direct) -> None:
    direct.has_checksums = True
    direct.content_type = "application/octet-stream"
    ref = await direct.put(bytes(20 * 1024 * 1024))
    assert await direct.notify(ref) == PROCESSED
    assert direct.objects.calls.count("read") == 1  # its first bytes, for the type
    assert (await direct.room.catalogue.get_node(TENANT, id_of(ref))).sha256 is None
    owed = await direct.room.catalogue.nodes_without_sha256(10)
    assert [node.node_id for node in owed] == [id_of(ref)]


@pytest.mark.rule(20)
async def test_sha256_before_visible_is_computed_first(direct: Direct) -> None:
    direct.has_checksums = True
    policy = DrivePolicy(integrity=Integrity.SHA256_BEFORE_VISIBLE)
    await direct.room.catalogue.update_drive(TENANT, DRIVE, policy)
    ref = await direct.put(b"hello")
    await direct.notify(ref)
    (completed,) = await direct.room.events("UploadCompleted")
    assert hashlib.sha256(b"hello").digest() in completed.payload


async def test_object_changed_during_read_is_retried(direct: Direct) -> None:
    direct.content_type = "text/plain"
    ref = await direct.put(b"first")

    async def replaced() -> None:
        if direct.objects.calls.count("head") == 2:  # between read and comparison
            await direct.room.put(ref, b"second")

    direct.objects.on_call["head"] = replaced
    with pytest.raises(Aborted) as changed:
        await direct.notify(ref)
    assert changed.value.reason == "OBJECT_CHANGED"
    assert await direct.notify(ref) == PROCESSED
    node = await direct.room.catalogue.get_node(TENANT, id_of(ref))
    assert (node.size, node.crc32c) == (6, crc32c(b"second"))


async def test_unavailable_store_is_retried(direct: Direct) -> None:
    ref = await direct.put()
    direct.objects.before["head"] = [Unavailable("STORE_UNAVAILABLE", "It is away.")]
    with pytest.raises(Unavailable):
        await direct.notify(ref)
    assert await direct.notify(ref) == PROCESSED


async def test_invalid_declared_type_is_dropped(direct: Direct) -> None:
    direct.content_type = "no type; at all \x00"
    ref = await direct.put(b"hello")
    await direct.notify(ref)
    assert (await direct.room.catalogue.get_node(TENANT, id_of(ref))).content_type == ""


async def test_own_thumbnails_are_not_adopted(direct: Direct) -> None:
    ref = await direct.put()
    await direct.notify(ref)
    found = await direct.room.catalogue.processing_of(TENANT, [id_of(ref)])
    for one in found[id_of(ref)].thumbnails:
        assert place_of(one.object) is None
