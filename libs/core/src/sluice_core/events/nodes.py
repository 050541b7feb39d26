"""Node events for the outbox (rules 22 and 23)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from sluice.events.v1 import nodes_pb2, uploads_pb2
from sluice_core.catalogue.processing import Processing, ProcessingState
from sluice_core.ports.catalogue import Node, NodeCommit
from sluice_core.ports.event_publisher import NODES_TOPIC, UPLOADS_TOPIC, EventRecord
from sluice_core.uploads.ids import event_id

# The sequence of a node event is the version of the node's record after the change. The event id
# is derived from (node id, type, sequence), so that building an event again yields the same id.

COMPLETED_SEQUENCE = 2
"""Position of UploadCompleted among the events of an upload; UploadInitiated is 1. It is an event
of the upload even when the catalogue emits it."""


class DeletionReason(StrEnum):
    """Why a node was deleted: by a request, or because another upload took its path."""

    DELETED = "DELETED"
    SUPERSEDED = "SUPERSEDED"


def upload_completed(
    commit: NodeCommit, *, superseded_node_id: str, occurred_at: float
) -> EventRecord:
    """Return the event of a node that became visible.

    It always carries the CRC32C, and the SHA-256 when it is known (rule 20).
    """
    header = _header(
        "UploadCompleted", commit.node_id, commit.tenant, COMPLETED_SEQUENCE, occurred_at
    )
    event = uploads_pb2.UploadCompleted(
        header=header,
        upload_id=commit.upload_id,
        node_id=commit.node_id,
        drive=commit.drive,
        path=commit.path,
        content_type=commit.content_type,
        size=commit.size,
        crc32c=commit.crc32c,
        sha256=commit.sha256,
        metadata=commit.metadata,
        superseded_node_id=superseded_node_id,
        bucket=commit.object.bucket,
        object_key=commit.object.key,
    )
    headers = {"traceparent": commit.trace_parent} if commit.trace_parent else {}
    return _record(event, header, UPLOADS_TOPIC, commit.node_id, occurred_at, headers)


def node_deleted(node: Node, reason: DeletionReason, *, occurred_at: float) -> EventRecord:
    """Return NodeDeleted; `node` is the tombstone, with the version after the deletion."""
    header = _header("NodeDeleted", node.node_id, node.tenant, node.version, occurred_at)
    event = nodes_pb2.NodeDeleted(
        header=header,
        node_id=node.node_id,
        drive=node.drive,
        path=node.path,
        reason=reason.value,
    )
    return _record(event, header, NODES_TOPIC, node.node_id, occurred_at, {})


def node_verified(node: Node, sha256: bytes, *, occurred_at: float) -> EventRecord:
    """Return NodeVerified; `node` is the record with its SHA-256 set."""
    header = _header("NodeVerified", node.node_id, node.tenant, node.version, occurred_at)
    event = nodes_pb2.NodeVerified(
        header=header,
        node_id=node.node_id,
        drive=node.drive,
        path=node.path,
        size=node.size,
        crc32c=node.crc32c,
        sha256=sha256,
    )
    return _record(event, header, NODES_TOPIC, node.node_id, occurred_at, {})


def node_processed(
    node: Node, processing: Processing, *, occurred_at: float, trace_parent: str
) -> EventRecord:
    """Return NodeProcessed or NodeProcessingFailed; `node` is the record with its result set.

    The event contains neither EXIF nor location: events reach more systems than the catalogue.
    """
    failed = processing.state is ProcessingState.FAILED
    name = "NodeProcessingFailed" if failed else "NodeProcessed"
    header = _header(name, node.node_id, node.tenant, node.version, occurred_at)
    event: Message
    if failed:
        event = nodes_pb2.NodeProcessingFailed(
            header=header,
            node_id=node.node_id,
            drive=node.drive,
            path=node.path,
            reason=processing.reason,
            detail=processing.detail,
            etag=processing.etag,
            content_type=processing.content_type,
        )
    else:
        event = nodes_pb2.NodeProcessed(
            header=header,
            node_id=node.node_id,
            drive=node.drive,
            path=node.path,
            etag=processing.etag,
            content_type=processing.content_type,
            width=processing.width,
            height=processing.height,
            frames=processing.frames,
            damaged=processing.damaged,
            bucket=node.object.bucket,
            thumbnails=[
                nodes_pb2.NodeThumbnail(
                    size=thumbnail.size,
                    width=thumbnail.width,
                    height=thumbnail.height,
                    content_type=thumbnail.content_type,
                    size_bytes=thumbnail.size_bytes,
                    etag=thumbnail.etag,
                    object_key=thumbnail.object.key,
                )
                for thumbnail in processing.thumbnails
            ],
        )
    headers = {"traceparent": trace_parent} if trace_parent else {}
    return _record(event, header, NODES_TOPIC, node.node_id, occurred_at, headers)


def _header(
    event_type: str, node_id: str, tenant: str, sequence: int, occurred_at: float
) -> uploads_pb2.EventHeader:
    timestamp = Timestamp()
    timestamp.FromDatetime(datetime.fromtimestamp(occurred_at, UTC))
    return uploads_pb2.EventHeader(
        event_id=event_id(node_id, event_type, sequence),
        occurred_at=timestamp,
        tenant=tenant,
        sequence=sequence,
    )


def _record(
    event: Message,
    header: uploads_pb2.EventHeader,
    topic: str,
    key: str,
    occurred_at: float,
    headers: Mapping[str, str],
) -> EventRecord:
    return EventRecord(
        event_id=header.event_id,
        type=event.DESCRIPTOR.full_name,
        topic=topic,
        key=key,
        tenant=header.tenant,
        occurred_at=occurred_at,
        payload=event.SerializeToString(deterministic=True),
        headers=headers,
    )
