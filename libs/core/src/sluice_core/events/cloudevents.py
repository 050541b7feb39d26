"""Events as CloudEvents 1.0 in structured JSON mode, one line each. Pure.

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
"""CloudEvents allows no other characters in attribute names, and recommends no more of them."""

_OWN = frozenset(
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
    """One line of JSON, with its newline. Headers become extension attributes, `traceparent`
    among them; those whose names CloudEvents does not allow go into `sluiceheaders`."""
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
        fits = name not in _OWN and _EXTENSION.fullmatch(name) is not None
        (event if fits else others)[name] = value
    if others:
        event["sluiceheaders"] = json.dumps(others)
    event["data_base64"] = base64.b64encode(record.payload).decode()
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> EventRecord:
    """What `to_line` was given (times to the microsecond). Raises ValueError for other lines."""
    event = json.loads(line)
    if not isinstance(event, dict) or event.get("specversion") != "1.0":
        raise ValueError("not a CloudEvent of version 1.0")
    try:
        headers = {name: value for name, value in event.items() if name not in _OWN}
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
        raise ValueError("not an event of ours") from error


def to_rfc3339(seconds: float) -> str:
    """A time in seconds as CloudEvents writes it, to the microsecond."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_rfc3339(text: str) -> float:
    """The time in seconds; raises ValueError."""
    return datetime.fromisoformat(text).timestamp()
