"""Conversion between rows and values; the only module that knows the column formats."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Row, Select, select

from sluice_backends.sql.schema import drives, nodes
from sluice_core.access.grants import Access, Grant, Grantee, GranteeKind, Role
from sluice_core.catalogue.processing import Json, Processing, ProcessingState, Thumbnail
from sluice_core.errors import DataLoss
from sluice_core.ports.catalogue import Drive, DrivePolicy, Node
from sluice_core.ports.event_publisher import EventRecord
from sluice_core.uploads.model import Integrity, ObjectRef

_DAMAGED = "DAMAGED"
"""Marker in the reason column, which is otherwise empty for a PROCESSED result. It needs no extra
column, and releases that do not know it show it unchanged."""
_TEXT_FORMAT = 1
"""Format of text columns that hold a map; stored with the entries and checked on read."""


def dump_map(entries: Mapping[str, str]) -> str:
    return json.dumps(
        {"format": _TEXT_FORMAT, "entries": dict(entries)},
        ensure_ascii=False,
        separators=(",", ":"),
    )


def load_map(text: str) -> dict[str, str]:
    stored = json.loads(text)
    if stored["format"] != _TEXT_FORMAT:
        raise DataLoss(
            "UNKNOWN_FORMAT",
            "A row of the catalogue has a format that this release does not know; run the release"
            " that wrote it.",
        )
    entries: dict[str, str] = stored["entries"]
    return entries


def drive_columns(policy: DrivePolicy) -> dict[str, Any]:
    """Return the columns of a policy."""
    return {
        "integrity": policy.integrity.value,
        "part_bytes": policy.part_bytes,
        "require_uniform": policy.require_uniform,
        "read_only": policy.read_only,
        "storage_class": policy.storage_class,
        "encryption": policy.encryption,
        "drop_location": policy.drop_location,
        "access": policy.access.value,
    }


def drive_of(row: Row[Any]) -> Drive:
    return Drive(
        tenant=row.tenant,
        name=row.name,
        bucket=row.bucket,
        key_prefix=row.key_prefix,
        policy=DrivePolicy(
            integrity=Integrity(row.integrity),
            part_bytes=row.part_bytes,
            require_uniform=row.require_uniform,
            read_only=row.read_only,
            storage_class=row.storage_class,
            encryption=row.encryption,
            drop_location=row.drop_location,
            access=Access(row.access),
        ),
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def grant_of(row: Row[Any]) -> Grant:
    return Grant(Grantee(GranteeKind(row.kind), row.grantee), Role(row.role), row.created_at)


def select_nodes() -> Select[Any]:
    """Select nodes in any state, joined with their drive; convert rows with `node_of`."""
    return select(
        nodes.c.node_id,
        nodes.c.drive_id,
        nodes.c.path,
        nodes.c.state,
        nodes.c.size,
        nodes.c.content_type,
        nodes.c.crc32c,
        nodes.c.sha256,
        nodes.c.metadata.label("entries"),
        nodes.c.bucket,
        nodes.c.object_key,
        nodes.c.version,
        nodes.c.created_at,
        nodes.c.updated_at,
        drives.c.tenant,
        drives.c.name.label("drive"),
        drives.c.drop_location,
    ).join_from(nodes, drives, nodes.c.drive_id == drives.c.drive_id)


def node_of(row: Row[Any]) -> Node:
    return Node(
        node_id=row.node_id,
        tenant=row.tenant,
        drive=row.drive,
        path=row.path,
        size=row.size,
        content_type=row.content_type,
        crc32c=row.crc32c,
        sha256=row.sha256,
        metadata=load_map(row.entries),
        object=ObjectRef(row.bucket, row.object_key),
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def processing_columns(processing: Processing, *, drop_location: bool) -> dict[str, Any]:
    location = None if drop_location else processing.location
    return {
        "etag": processing.etag,
        "state": processing.state.value,
        "reason": _DAMAGED if processing.damaged else processing.reason,
        "detail": processing.detail,
        "content_type": processing.content_type,
        "width": processing.width,
        "height": processing.height,
        "frames": processing.frames,
        "exif": _dump_json(processing.exif),
        "location": None if location is None else _dump_json(location),
        "processed_at": processing.processed_at,
    }


def processing_of_row(row: Row[Any], thumbnail_rows: Iterable[Row[Any]]) -> Processing:
    """Return the result in a row of `processings` with its drive's `drop_location`."""
    hidden = row.drop_location or row.location is None
    damaged = row.state == ProcessingState.PROCESSED and row.reason == _DAMAGED
    return Processing(
        etag=row.etag,
        state=ProcessingState(row.state),
        content_type=row.content_type,
        reason="" if damaged else row.reason,
        detail=row.detail,
        width=row.width,
        height=row.height,
        frames=row.frames,
        damaged=damaged,
        exif=json.loads(row.exif),
        location=None if hidden else json.loads(row.location),
        thumbnails=tuple(_thumbnail_of(one) for one in thumbnail_rows),
        processed_at=row.processed_at,
    )


def thumbnail_columns(node_id: str, thumbnail: Thumbnail) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "object_key": thumbnail.object.key,
        "bucket": thumbnail.object.bucket,
        "recorded": True,
        "size": thumbnail.size,
        "width": thumbnail.width,
        "height": thumbnail.height,
        "content_type": thumbnail.content_type,
        "size_bytes": thumbnail.size_bytes,
        "crc32c": thumbnail.crc32c,
        "etag": thumbnail.etag,
    }


def announced_columns(node_id: str, ref: ObjectRef) -> dict[str, Any]:
    """Return the columns of an announced thumbnail, which has only a name."""
    unknown = Thumbnail(0, 0, 0, "", 0, 0, "", ref)
    return {**thumbnail_columns(node_id, unknown), "recorded": False}


def _thumbnail_of(row: Row[Any]) -> Thumbnail:
    return Thumbnail(
        size=row.size,
        width=row.width,
        height=row.height,
        content_type=row.content_type,
        size_bytes=row.size_bytes,
        crc32c=row.crc32c,
        etag=row.etag,
        object=ObjectRef(row.bucket, row.object_key),
    )


def _dump_json(value: Mapping[str, Json]) -> str:
    return json.dumps(dict(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def event_columns(event: EventRecord) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "type": event.type,
        "topic": event.topic,
        "event_key": event.key,
        "tenant": event.tenant,
        "occurred_at": event.occurred_at,
        "payload": event.payload,
        "headers": dump_map(event.headers),
    }


def event_of(row: Row[Any]) -> EventRecord:
    return EventRecord(
        event_id=row.event_id,
        type=row.type,
        topic=row.topic,
        key=row.event_key,
        tenant=row.tenant,
        occurred_at=row.occurred_at,
        payload=row.payload,
        headers=load_map(row.headers),
    )
