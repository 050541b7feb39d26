"""Parser of store notifications: S3 event records and EventBridge events. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import unquote_plus

from sluice_core.uploads.model import ObjectRef

MAX_RECORDS: Final = 1000
_CREATED: Final = "ObjectCreated:"
_REMOVED: Final = ("ObjectRemoved:", "LifecycleExpiration:")
_TEST: Final = "TestEvent"
_PREFIX: Final = "s3:"
_SOURCE: Final = "aws.s3"


class NoticeKind(StrEnum):
    """What happened to an object."""

    CREATED = "CREATED"
    REMOVED = "REMOVED"
    TEST = "TEST"
    """A test message, sent when a bucket is connected."""
    OTHER = "OTHER"
    """Any other event: tags, accesses, restores."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One event of a notification message; `ref` is set if it is CREATED."""

    kind: NoticeKind
    ref: ObjectRef | None = None
    happened_at: float | None = None
    """Seconds since the epoch."""


class BadNotification(ValueError):
    """A message that is no notification. `reason` is stable; the text quotes no content."""

    reason: Final = "NOT_A_NOTIFICATION"


def parse_notification(body: bytes | str) -> Sequence[Notice]:
    """Return the notices in a message, in order. Raise `BadNotification`.

        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": …, "object": …}}, …]}
        {"EventName": "s3:ObjectCreated:Put", "Key": "bucket/key", "Records": [as above]}   MinIO
        {"source": "aws.s3", "detail-type": "Object Created", "detail": {"bucket": …, "object": …}}
        {"Service": "Amazon S3", "Event": "s3:TestEvent", …}           when a bucket is connected

    Keys in event records are encoded like a URL query, those of EventBridge are not encoded.
    `sequencer` and `versionId` are ignored: the handler reads the current object, once per
    content.
    """
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        raise BadNotification("it is not JSON") from None
    if not isinstance(message, dict):
        raise BadNotification("it is no JSON object")
    if "Records" in message:
        records = message["Records"]
        if not isinstance(records, list) or len(records) > MAX_RECORDS:
            raise BadNotification(f"Records is no list of at most {MAX_RECORDS}")
        return [_record(record) for record in records]
    if message.get("source") == _SOURCE:
        return [_bridged(message)]
    if _bare(message.get("Event")) == _TEST:
        return [Notice(NoticeKind.TEST)]
    raise BadNotification("it has neither Records nor the source aws.s3")


def _record(record: object) -> Notice:
    record = _mapping(record, "a record")
    name = _bare(record.get("eventName"))
    if name.startswith(_REMOVED):
        return Notice(NoticeKind.REMOVED)
    if not name.startswith(_CREATED):
        return Notice(NoticeKind.TEST if name == _TEST else NoticeKind.OTHER)
    bucket, key = _named(_mapping(record.get("s3"), "s3"))
    try:
        key = unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise BadNotification("a key is not UTF-8") from None
    return Notice(NoticeKind.CREATED, ObjectRef(bucket, key), _time(record.get("eventTime")))


def _bridged(message: Mapping[str, Any]) -> Notice:
    match message.get("detail-type"):
        case "Object Created":
            bucket, key = _named(_mapping(message.get("detail"), "detail"))
            return Notice(NoticeKind.CREATED, ObjectRef(bucket, key), _time(message.get("time")))
        case "Object Deleted":
            return Notice(NoticeKind.REMOVED)
    return Notice(NoticeKind.OTHER)


def _named(of: Mapping[str, Any]) -> tuple[str, str]:
    bucket = _mapping(of.get("bucket"), "bucket").get("name")
    key = _mapping(of.get("object"), "object").get("key")
    if not (isinstance(bucket, str) and bucket and isinstance(key, str) and key):
        raise BadNotification("a bucket's name or a key is missing")
    return bucket, key


def _bare(name: object) -> str:
    return name.removeprefix(_PREFIX) if isinstance(name, str) else ""


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadNotification(f"{what} is no JSON object")
    return value


def _time(text: object) -> float | None:
    """Parse the time of an event; None if it is invalid, because the object still counts."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None
