"""Conversion of events and notices to work items. Pure."""

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


class SkipReason(StrEnum):
    """Why a notice is skipped."""

    REMOVED = "REMOVED"
    TEST = "TEST"
    OTHER_EVENT = "OTHER_EVENT"
    THUMBNAIL = "THUMBNAIL"
    """Written by the processor itself; processing it would produce another one."""
    OTHER_KEY = "OTHER_KEY"
    """The key is not that of a node's object."""
    SAME_OBJECT = "SAME_OBJECT"
    """Repeated in the same message."""


_KINDS = {
    NoticeKind.REMOVED: SkipReason.REMOVED,
    NoticeKind.TEST: SkipReason.TEST,
    NoticeKind.OTHER: SkipReason.OTHER_EVENT,
}


@dataclass(frozen=True, slots=True)
class SortedNotices:
    """The notices of a message: work items, and the reasons of skipped notices."""

    works: tuple[Work, ...]
    skipped: tuple[SkipReason, ...]


def work_of(record: EventRecord, message: Message) -> Work | None:
    """Return the work item of an event; None if the event needs no processing."""
    if not isinstance(message, uploads_pb2.UploadCompleted | uploads_pb2.ProcessingRequested):
        return None
    return Work(
        tenant=record.tenant,
        node_id=message.node_id,
        trace_parent=record.headers.get("traceparent", ""),
        since=record.occurred_at,
        is_requested=isinstance(message, uploads_pb2.ProcessingRequested),
    )


def sort_notices(notices: Iterable[Notice]) -> SortedNotices:
    """Return one work item per object of a node, in the order of the message."""
    works: dict[ObjectRef | None, Work] = {}
    skipped: list[SkipReason] = []
    for notice in notices:
        found = SkipReason.SAME_OBJECT if notice.ref in works else _work_or_reason(notice)
        if isinstance(found, Work):
            works[notice.ref] = found
        else:
            skipped.append(found)
    return SortedNotices(tuple(works.values()), tuple(skipped))


def _work_or_reason(notice: Notice) -> Work | SkipReason:
    if notice.ref is None:
        return _KINDS[notice.kind]
    if is_thumbnail(notice.ref.key):
        return SkipReason.THUMBNAIL
    place = place_of(notice.ref)
    if place is None:
        return SkipReason.OTHER_KEY
    return Work(tenant="", node_id=place.node_id, since=notice.happened_at, place=place)
