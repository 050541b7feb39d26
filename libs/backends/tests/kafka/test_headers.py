"""Events as Kafka messages and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_backends.kafka.headers import (
    Headers,
    NotAnEvent,
    from_message,
    to_headers,
    to_key,
)
from sluice_core.ports.event_publisher import EventRecord

RECORD = EventRecord("id", "type", "topic", "key", "tenant", 1.5, b"value", {"traceparent": "00-1"})
# All that UTF-8 can encode: everything but unpaired surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.builds(
        EventRecord,
        event_id=texts,
        type=texts,
        topic=st.just("topic"),
        key=texts,
        tenant=texts,
        occurred_at=st.integers(0, 4_000_000_000).map(float),
        payload=st.binary(),
        headers=st.dictionaries(
            texts.filter(lambda name: not name.startswith("ce_") and name != "content-type"), texts
        ),
    )
)
def test_events_round_trip(record: EventRecord) -> None:
    decoded = from_message("topic", to_key(record), record.payload, to_headers(record))
    assert decoded == record


def test_headers_with_attribute_names_are_dropped() -> None:
    forged = EventRecord("id", "type", "t", "k", "tenant", 1.5, b"", {"ce_id": "x", "a": "b"})
    headers = to_headers(forged)
    assert [value for name, value in headers if name == "ce_id"] == [b"id"]
    assert from_message("t", b"k", b"", headers).headers == {"a": "b"}


def _without(name: str) -> Headers:
    return [(each, value) for each, value in to_headers(RECORD) if each != name]


@pytest.mark.parametrize(
    ("key", "headers", "error"),
    [
        (b"key", [], "ce_specversion"),
        (b"key", _without("ce_id"), "ce_id"),
        (b"key", _without("ce_type"), "ce_type"),
        (b"key", _without("ce_time"), "ce_time"),
        (b"key", _without("ce_sluicetenant"), "ce_sluicetenant"),
        (b"key", _without("content-type"), "content-type"),
        (b"key", [*_without("ce_time"), ("ce_time", b"yesterday")], "ce_time"),
        (b"key", [*to_headers(RECORD), ("other", b"\xff")], "UTF-8"),
        (b"\xff", to_headers(RECORD), "UTF-8"),
        (None, to_headers(RECORD), "key"),
    ],
)
def test_invalid_message_error_names_the_missing_attribute(
    key: bytes | None, headers: Headers, error: str
) -> None:
    with pytest.raises(NotAnEvent, match=error):
        from_message("topic", key, b"", headers)
