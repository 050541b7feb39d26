"""Upload events (rules 22 and 23): built by the ledger, published by the relay."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from sluice.events.v1 import uploads_pb2
from sluice_core.ports import LedgerEvent
from sluice_core.ports.event_publisher import UPLOADS_TOPIC, EventRecord
from sluice_core.uploads.ids import event_id
from sluice_core.uploads.model import NewUpload

_PACKAGE = uploads_pb2.DESCRIPTOR.package

# The events of an upload are numbered from 1 (UploadInitiated). The event id is derived from (node
# id, type, sequence), so that publishing an event again yields the same id. Not from the upload
# id: one that is derived from a request id is reused, while every upload has a new node id.


def upload_initiated(new: NewUpload, sequence: int, occurred_at: float) -> LedgerEvent:
    """Return the event of an opened upload."""
    event = uploads_pb2.UploadInitiated(
        header=_header("UploadInitiated", new, sequence, occurred_at),
        upload_id=new.upload_id,
        node_id=new.node_id,
        drive=new.drive,
        path=new.path,
        content_type=new.content_type,
        expected_size=new.expected_size,
    )
    return _ledger_event(event, new, event.header, occurred_at)


def upload_completed(
    new: NewUpload,
    sequence: int,
    occurred_at: float,
    *,
    size: int,
    crc32c: int,
    sha256: bytes | None,
) -> LedgerEvent:
    """Return the event of a complete object; only for deployments without a catalogue."""
    event = uploads_pb2.UploadCompleted(
        header=_header("UploadCompleted", new, sequence, occurred_at),
        upload_id=new.upload_id,
        node_id=new.node_id,
        drive=new.drive,
        path=new.path,
        content_type=new.content_type,
        size=size,
        crc32c=crc32c,
        sha256=sha256,
        metadata=new.metadata,
        bucket=new.object.bucket,
        object_key=new.object.key,
    )
    return _ledger_event(event, new, event.header, occurred_at)


def upload_failed(
    new: NewUpload, sequence: int, occurred_at: float, *, reason: str, detail: str
) -> LedgerEvent:
    """Return the event of an upload that the server ended."""
    event = uploads_pb2.UploadFailed(
        header=_header("UploadFailed", new, sequence, occurred_at),
        upload_id=new.upload_id,
        node_id=new.node_id,
        drive=new.drive,
        path=new.path,
        reason=reason,
        detail=detail,
    )
    return _ledger_event(event, new, event.header, occurred_at)


def upload_aborted(new: NewUpload, sequence: int, occurred_at: float) -> LedgerEvent:
    """Return the event of an upload that the client aborted."""
    event = uploads_pb2.UploadAborted(
        header=_header("UploadAborted", new, sequence, occurred_at),
        upload_id=new.upload_id,
        node_id=new.node_id,
        drive=new.drive,
        path=new.path,
    )
    return _ledger_event(event, new, event.header, occurred_at)


def upload_expired(
    new: NewUpload, sequence: int, occurred_at: float, *, reason: str
) -> LedgerEvent:
    """Return the event of an expired upload; `reason` is IDLE, TOTAL or PRESSURE."""
    event = uploads_pb2.UploadExpired(
        header=_header("UploadExpired", new, sequence, occurred_at),
        upload_id=new.upload_id,
        node_id=new.node_id,
        drive=new.drive,
        path=new.path,
        reason=reason,
    )
    return _ledger_event(event, new, event.header, occurred_at)


def processing_requested(
    tenant: str, node_id: str, occurred_at: float, *, trace_parent: str = ""
) -> EventRecord:
    """Return the request to process a node again. It is on the topic that processors follow.

    Each request has an id of its own, from its time in microseconds: consumers drop duplicates.
    """
    microseconds = round(occurred_at * 1e6)
    timestamp = Timestamp()
    timestamp.FromMicroseconds(microseconds)
    event = uploads_pb2.ProcessingRequested(
        header=uploads_pb2.EventHeader(
            event_id=event_id(node_id, "ProcessingRequested", microseconds),
            occurred_at=timestamp,
            tenant=tenant,
            sequence=microseconds,
        ),
        node_id=node_id,
    )
    return EventRecord(
        event_id=event.header.event_id,
        type=event.DESCRIPTOR.full_name,
        topic=UPLOADS_TOPIC,
        key=node_id,
        tenant=tenant,
        occurred_at=occurred_at,
        payload=event.SerializeToString(),
        headers={"traceparent": trace_parent} if trace_parent else {},
    )


def to_record(event: LedgerEvent) -> EventRecord:
    """Return the event in the publisher's form, keyed by node to keep a node's events in order."""
    return EventRecord(
        event_id=event.event_id,
        type=f"{_PACKAGE}.{event.type}",
        topic=UPLOADS_TOPIC,
        key=event.node_id,
        tenant=event.tenant,
        occurred_at=event.occurred_at,
        payload=event.payload,
        headers={"traceparent": event.trace_parent} if event.trace_parent else {},
    )


def _header(
    name: str, new: NewUpload, sequence: int, occurred_at: float
) -> uploads_pb2.EventHeader:
    timestamp = Timestamp()
    timestamp.FromDatetime(datetime.fromtimestamp(occurred_at, UTC))
    return uploads_pb2.EventHeader(
        event_id=event_id(new.node_id, name, sequence),
        occurred_at=timestamp,
        tenant=new.tenant,
        sequence=sequence,
    )


def _ledger_event(
    event: Message, new: NewUpload, header: uploads_pb2.EventHeader, occurred_at: float
) -> LedgerEvent:
    return LedgerEvent(
        event_id=header.event_id,
        upload_id=new.upload_id,
        node_id=new.node_id,
        tenant=new.tenant,
        type=event.DESCRIPTOR.name,
        sequence=header.sequence,
        occurred_at=occurred_at,
        payload=event.SerializeToString(),
        trace_parent=new.trace_parent,
    )
