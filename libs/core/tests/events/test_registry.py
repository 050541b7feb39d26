"""Event registry and the check of envelopes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sluice.events.v1 import uploads_pb2
from sluice_core.events.registry import EVENT_TYPES, BadEvent, parse_record
from sluice_core.ports.event_publisher import EventRecord

MESSAGE = uploads_pb2.UploadAborted(
    header=uploads_pb2.EventHeader(event_id="id-1", tenant="default", sequence=2),
    upload_id="upload-1",
    node_id="node-1",
)
RECORD = EventRecord(
    event_id="id-1",
    type="sluice.events.v1.UploadAborted",
    topic="sluice.uploads.v1",
    key="node-1",
    tenant="default",
    occurred_at=1.0,
    payload=MESSAGE.SerializeToString(),
)


def test_messages_with_a_header_are_events() -> None:
    """The header itself is not an event."""
    names = {name.rpartition(".")[2] for name in EVENT_TYPES}
    assert {"UploadInitiated", "UploadCompleted", "NodeVerified", "NodeDeleted"} <= names
    assert "EventHeader" not in names


def test_event_with_a_matching_envelope_is_parsed() -> None:
    assert parse_record(RECORD) == MESSAGE


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (replace(RECORD, type="sluice.events.v1.EventHeader"), "UNKNOWN_TYPE"),
        (replace(RECORD, type="sluice.events.v2.UploadAborted"), "UNKNOWN_TYPE"),
        (replace(RECORD, payload=b"\xff"), "NOT_PROTOBUF"),
        (replace(RECORD, payload=b""), "WRONG_ID"),
        (replace(RECORD, event_id="id-2"), "WRONG_ID"),
        (replace(RECORD, tenant="other"), "WRONG_TENANT"),
        (replace(RECORD, key="node-2"), "WRONG_KEY"),
    ],
)
def test_event_with_a_forged_envelope_is_rejected_by_reason(
    record: EventRecord, reason: str
) -> None:
    with pytest.raises(BadEvent) as caught:
        parse_record(record)
    assert caught.value.reason == reason
