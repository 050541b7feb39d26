"""Unit tests: removal of the Confluent frame."""

from __future__ import annotations

from contextlib import suppress

import pytest
from confluent_kafka.schema_registry.serde import SchemaId
from hypothesis import given
from hypothesis import strategies as st

from sluice.events.v1 import uploads_pb2
from sluice_backends.kafka.schemas import strip_frame
from sluice_core.events.registry import BadEvent


@given(
    payload=st.binary(),
    schema_id=st.integers(0, 2**31 - 1),
    indexes=st.lists(st.integers(0, 500), min_size=1, max_size=5),
)
def test_confluent_frames_are_stripped(payload: bytes, schema_id: int, indexes: list[int]) -> None:
    frame = SchemaId("PROTOBUF", schema_id, None, indexes).id_to_bytes()
    assert strip_frame(frame + payload) == payload


@given(st.builds(uploads_pb2.UploadAborted, upload_id=st.text(), node_id=st.text()))
def test_unframed_messages_are_unchanged(message: uploads_pb2.UploadAborted) -> None:
    payload = message.SerializeToString()
    assert strip_frame(payload) == payload


@given(st.binary(max_size=40))
def test_any_frame_is_stripped_or_refused(data: bytes) -> None:
    with suppress(BadEvent):
        assert data.endswith(strip_frame(b"\x00" + data))


@pytest.mark.parametrize(
    "frame",
    [
        b"\x00",
        b"\x00\x00\x00\x00\x01",
        b"\x00\x00\x00\x00\x01\x80",
        b"\x00\x00\x00\x00\x01\x04\x02",
        b"\x00\x00\x00\x00\x01\x01",  # -1 indexes
        b"\x00\x00\x00\x00\x01" + b"\xff" * 20,
    ],
)
def test_truncated_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(BadEvent) as caught:
        strip_frame(frame)
    assert caught.value.reason == "BAD_FRAME"
