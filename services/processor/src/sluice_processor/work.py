"""From events to work. Pure."""

from __future__ import annotations

from google.protobuf.message import Message

from sluice.events.v1 import uploads_pb2
from sluice_common.events.port import EventRecord
from sluice_processor.handler import Work


def work_of(record: EventRecord, message: Message) -> Work | None:
    """The node that an event is about, if there is something new to look at."""
    if not isinstance(message, uploads_pb2.UploadCompleted):
        return None
    return Work(
        tenant=record.tenant,
        node_id=message.node_id,
        trace_parent=record.headers.get("traceparent", ""),
        since=record.occurred_at,
    )
