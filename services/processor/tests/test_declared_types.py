"""Objects whose bytes are not of the declared type."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice_core.objects.body import BytesBody
from sluice_core.objects.marks import path_mark
from sluice_core.ports.object_store import ObjectAttributes
from sluice_processor.nodes.handler import Outcome, Work
from support.commits import DRIVE, TENANT, finished_upload
from support.pictures import quadrants, saved
from support.processor import PHOTO, Darkroom

PNG = saved(quadrants(), "PNG")
PDF = b"%PDF-1.7 " + bytes(1000)
PROCESSED = Outcome("processed")
MISMATCH = Outcome("failed", "TYPE_MISMATCH")


async def processed(
    room: Darkroom, declared: str, content: bytes, *, is_signed: bool, path: str = "a"
) -> Outcome:
    """Store an object that was declared as this type, and process its node."""
    commit = replace(finished_upload(path, content=content), content_type=declared)
    metadata = path_mark(path) if is_signed else {}
    attributes = ObjectAttributes(declared, metadata=metadata)
    await room.store.put(commit.object, BytesBody(content), attributes)
    await room.catalogue.commit_node(commit)
    return await room.processor.process(Work(TENANT, commit.node_id))


@pytest.mark.parametrize(
    ("declared", "content", "of_upload", "of_signed_url"),
    [
        ("image/jpeg", PHOTO, PROCESSED, PROCESSED),
        ("image/jpg; q=1", PHOTO, PROCESSED, PROCESSED),
        ("IMAGE/PNG", PNG, PROCESSED, PROCESSED),
        ("image/jpeg", PDF, MISMATCH, MISMATCH),
        ("image/heic", b"no known format", MISMATCH, MISMATCH),
        ("image/jpeg", PDF * 100, MISMATCH, MISMATCH),
        # The type of a file comes from its name, the one of a signed URL from its requester.
        ("image/jpeg", PNG, PROCESSED, MISMATCH),
        ("image/heif", PHOTO, PROCESSED, MISMATCH),
        # The processor makes no picture of these, whatever they are.
        ("image/svg+xml", b"<svg/>", PROCESSED, PROCESSED),
        ("application/pdf", PNG, PROCESSED, PROCESSED),
        ("", PHOTO, PROCESSED, PROCESSED),
    ],
)
async def test_declared_picture_must_be_one(
    room: Darkroom, declared: str, content: bytes, of_upload: Outcome, of_signed_url: Outcome
) -> None:
    assert await processed(room, declared, content, is_signed=False) == of_upload
    assert await processed(room, declared, content, is_signed=True, path="b") == of_signed_url


async def test_detail_names_both_types(room: Darkroom) -> None:
    await processed(room, "image/jpeg", PDF, is_signed=True)
    node = await room.catalogue.find_node(TENANT, DRIVE, "a")
    found = (await room.catalogue.processing_of(TENANT, [node.node_id]))[node.node_id]
    assert "image/jpeg" in found.detail
    assert "application/pdf" in found.detail
    assert found.content_type == "application/pdf"
