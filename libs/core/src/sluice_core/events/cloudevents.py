"""CloudEvents 1.0 in structured JSON mode, one line per event. Pure.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime

from sluice_core.ports.event_publisher import EventRecord

SOURCE = "sluice"
_EXTENSION = re.compile(r"[a-z0-9]{1,20}")
"""Attribute names: the characters that CloudEvents allows, up to the length that it recommends."""

_RESERVED_ATTRIBUTES = frozenset(
    {
        "specversion",
        "id",
        "type",
        "source",
        "time",
        "subject",
        "datacontenttype",
        "dataschema",
        "data",
        "data_base64",
        "sluicetopic",
        "sluicetenant",
        "sluiceheaders",
    }
)


def to_line(record: EventRecord) -> bytes:
    """Return one line of JSON with its newline.

    Headers become extension attributes, e.g. `traceparent`. Headers whose names CloudEvents does
    not allow go into `sluiceheaders`.
    """
    event = {
        "specversion": "1.0",
        "id": record.event_id,
        "type": record.type,
        "source": SOURCE,
        "time": to_rfc3339(record.occurred_at),
        "subject": record.key,
        "datacontenttype": "application/protobuf",
        "sluicetopic": record.topic,
        "sluicetenant": record.tenant,
    }
    others: dict[str, str] = {}
    for name, value in record.headers.items():
        is_allowed = name not in _RESERVED_ATTRIBUTES and _EXTENSION.fullmatch(name) is not None
        (event if is_allowed else others)[name] = value
    if others:
        event["sluiceheaders"] = json.dumps(others)
    event["data_base64"] = base64.b64encode(record.payload).decode()
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> EventRecord:
    """Return the inverse of `to_line` (times to the microsecond); raise ValueError if invalid."""
    event = json.loads(line)
    if not isinstance(event, dict) or event.get("specversion") != "1.0":
        raise ValueError("not a CloudEvent of version 1.0")
    try:
        headers = {name: value for name, value in event.items() if name not in _RESERVED_ATTRIBUTES}
        headers.update(json.loads(event.get("sluiceheaders", "{}")))
        return EventRecord(
            event_id=event["id"],
            type=event["type"],
            topic=event["sluicetopic"],
            key=event["subject"],
            tenant=event["sluicetenant"],
            occurred_at=from_rfc3339(event["time"]),
            payload=base64.b64decode(event["data_base64"], validate=True),
            headers=headers,
        )
    except (KeyError, TypeError) as error:
        raise ValueError("not a Sluice event") from error


def to_rfc3339(seconds: float) -> str:
    """Return seconds since the epoch as RFC 3339, to the microsecond."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_rfc3339(text: str) -> float:
    """Return seconds since the epoch; raise ValueError for an invalid time."""
    return datetime.fromisoformat(text).timestamp()
