"""From events and notices to work. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.message import Message

from sluice.events.v1 import uploads_pb2
from sluice_core.ports.event_publisher import EventRecord
from sluice_core.uploads.model import ObjectRef
from sluice_processor.nodes.handler import Work
from sluice_processor.nodes.keys import is_thumbnail, place_of
from sluice_processor.sources.store_notifications import Notice, NoticeKind


class Passed(StrEnum):
    """Why a notice is no work."""

    REMOVED = "REMOVED"
    TEST = "TEST"
    OTHER_EVENT = "OTHER_EVENT"
    THUMBNAIL = "THUMBNAIL"
    """Of our own making: to look at it would make another one."""
    OTHER_KEY = "OTHER_KEY"
    """Not where Sluice keeps the object of a node."""
    SAME_OBJECT = "SAME_OBJECT"
    """Named before in the same message."""


_KINDS = {
    NoticeKind.REMOVED: Passed.REMOVED,
    NoticeKind.TEST: Passed.TEST,
    NoticeKind.OTHER: Passed.OTHER_EVENT,
}


@dataclass(frozen=True, slots=True)
class Sorted:
    """The notices of a message: what is to be done, and what is passed over and why."""

    works: tuple[Work, ...]
    passed: tuple[Passed, ...]


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


def sorted_notices(notices: Iterable[Notice]) -> Sorted:
    """Each object of a node once, in the order of the message."""
    works: dict[ObjectRef | None, Work] = {}
    passed: list[Passed] = []
    for notice in notices:
        found = Passed.SAME_OBJECT if notice.ref in works else _work_or_reason(notice)
        if isinstance(found, Work):
            works[notice.ref] = found
        else:
            passed.append(found)
    return Sorted(tuple(works.values()), tuple(passed))


def _work_or_reason(notice: Notice) -> Work | Passed:
    if notice.ref is None:
        return _KINDS[notice.kind]
    if is_thumbnail(notice.ref.key):
        return Passed.THUMBNAIL
    place = place_of(notice.ref)
    if place is None:
        return Passed.OTHER_KEY
    return Work(tenant="", node_id=place.node_id, since=notice.happened_at, place=place)
