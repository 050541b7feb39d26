"""Events as Kafka messages: the CloudEvents binding in binary mode, pure functions.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sluice_core.events.cloudevents import SOURCE, from_rfc3339, to_rfc3339
from sluice_core.ports.event_publisher import EventRecord

CONTENT_TYPE = "application/protobuf"
_PREFIX = "ce_"
_CONTENT_TYPE_HEADER = "content-type"

Headers = list[tuple[str, bytes]]


class NotAnEvent(ValueError):
    """Message that is no event; the text names what is missing or invalid."""


def to_headers(record: EventRecord) -> Headers:
    """Return an event's attributes, then its own headers (trace context).

    Own headers that have an attribute's name are left out.
    """
    attributes = {
        "ce_specversion": "1.0",
        "ce_id": record.event_id,
        "ce_type": record.type,
        "ce_source": SOURCE,
        "ce_time": to_rfc3339(record.occurred_at),
        "ce_subject": record.key,
        "ce_sluicetenant": record.tenant,
        _CONTENT_TYPE_HEADER: CONTENT_TYPE,
    }
    own = {name: value for name, value in record.headers.items() if not _is_attribute(name)}
    return [(name, value.encode()) for name, value in {**attributes, **own}.items()]


def to_key(record: EventRecord) -> bytes:
    """Return the message key of an event."""
    return record.key.encode()


def from_message(
    topic: str, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]
) -> EventRecord:
    """Return the event of a message; its payload is the unchanged value.

    Raise `NotAnEvent`.
    """
    decoded = _decode(headers)
    if decoded.get("ce_specversion") != "1.0":
        raise NotAnEvent("ce_specversion is not 1.0")
    if decoded.get(_CONTENT_TYPE_HEADER) != CONTENT_TYPE:
        raise NotAnEvent(f"content-type is not {CONTENT_TYPE}")
    if key is None:
        raise NotAnEvent("the key is missing")
    try:
        return EventRecord(
            event_id=decoded["ce_id"],
            type=decoded["ce_type"],
            topic=topic,
            key=key.decode(),
            tenant=decoded["ce_sluicetenant"],
            occurred_at=from_rfc3339(decoded["ce_time"]),
            payload=value or b"",
            headers={name: text for name, text in decoded.items() if not _is_attribute(name)},
        )
    except KeyError as error:
        raise NotAnEvent(f"the header {error.args[0]} is missing") from None
    except UnicodeDecodeError:
        raise NotAnEvent("the key is not UTF-8") from None
    except ValueError:
        raise NotAnEvent("ce_time is not a time") from None


def _decode(headers: Iterable[tuple[str, bytes]]) -> Mapping[str, str]:
    try:
        return {name: (value or b"").decode() for name, value in headers}
    except UnicodeDecodeError:
        raise NotAnEvent("a header is not UTF-8") from None


def _is_attribute(name: str) -> bool:
    return name.startswith(_PREFIX) or name == _CONTENT_TYPE_HEADER
