"""Results of processing, and what a catalogue says about them."""

from __future__ import annotations

import time

from sluice_core.catalogue.processing import Processing, ProcessingState, Recorded, Thumbnail
from sluice_core.ports.catalogue import MAX_DOWNLOAD_URL_SECONDS, Catalogue, NodeCommit
from sluice_core.ports.event_publisher import EventRecord
from sluice_core.uploads.model import ObjectRef
from support.commits import BUCKET, TENANT, finished_upload

LATER = 2 * MAX_DOWNLOAD_URL_SECONDS


def thumbnail(node_id: str, size: int, etag: str = "e-1") -> Thumbnail:
    return Thumbnail(
        size=size,
        width=size,
        height=size // 2,
        content_type="image/webp",
        size_bytes=100 + size,
        crc32c=0xFFFFFFFF,
        etag=f"t-{size}",
        object=ObjectRef(BUCKET, f"thumbnails/{node_id}/{etag}/{size}.webp"),
    )


def processed(node_id: str, etag: str = "e-1") -> Processing:
    return Processing(
        etag=etag,
        state=ProcessingState.PROCESSED,
        content_type="image/jpeg",
        width=4000,
        height=3000,
        frames=1,
        exif={"camera_make": "Åsa", "iso": 100, "flash_fired": False},
        location={"latitude": 59.5, "longitude": 18.25},
        thumbnails=(thumbnail(node_id, 256, etag), thumbnail(node_id, 1024, etag)),
    )


def failed(etag: str = "e-1") -> Processing:
    return Processing(
        etag=etag,
        state=ProcessingState.FAILED,
        content_type="image/png",
        reason="TRUNCATED",
        detail="The picture ends early.",
    )


async def committed(catalogue: Catalogue, path: str = "a") -> NodeCommit:
    commit = finished_upload(path)
    await catalogue.commit_node(commit)
    return commit


async def announced(catalogue: Catalogue, node_id: str, etag: str = "e-1") -> bool:
    refs = [one.object for one in processed(node_id, etag).thumbnails]
    return await catalogue.announce_thumbnails(node_id, refs)


async def recorded(catalogue: Catalogue, node_id: str, processing: Processing) -> Recorded:
    return await catalogue.record_processed(TENANT, node_id, processing)


async def result(catalogue: Catalogue, node_id: str) -> Processing | None:
    return (await catalogue.processing_of(TENANT, [node_id])).get(node_id)


async def events(catalogue: Catalogue, name: str) -> list[EventRecord]:
    rows = await catalogue.outbox(1000)
    return [row.event for row in rows if row.event.type == f"sluice.events.v1.{name}"]


async def doomed_keys(catalogue: Catalogue) -> list[str]:
    due = await catalogue.deletions_due(time.time() + LATER, 1000)
    return sorted(deletion.object.key for deletion in due)


def keys_of(processing: Processing) -> list[str]:
    return sorted(one.object.key for one in processing.thumbnails)
