"""Conversion of events to news of nodes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from google.protobuf.message import Message

from sluice.events.v1 import nodes_pb2, uploads_pb2
from sluice_core.ports.event_publisher import EventRecord


class NewsKind(Enum):
    """What is known of a node before the catalogue is asked."""

    COMMITTED = auto()
    """It was committed. If it is not live any more, it was deleted."""
    STARTED = auto()
    """An upload for it has begun."""
    FAILED = auto()
    """The server ended its upload."""
    ABORTED = auto()
    """The client ended its upload."""
    CHECK = auto()
    """Nothing: somebody wants the catalogue to be asked."""


@dataclass(frozen=True, slots=True)
class NodeNews:
    """News of a node. `reason` and `detail` say why its upload FAILED."""

    node_id: str
    kind: NewsKind
    occurred_at: float = 0.0
    """Unix seconds."""
    reason: str = ""
    detail: str = ""
    trace_parent: str = ""


def news_of(record: EventRecord, message: Message) -> NodeNews | None:
    """Return the news in an event; None for one that changes no photo.

    Events of processing carry none of their result on purpose: events arrive in any order, so the
    projector takes the present state from the catalogue.
    """
    kind, reason, detail = NewsKind.COMMITTED, "", ""
    match message:
        case uploads_pb2.UploadInitiated():
            kind = NewsKind.STARTED
        case uploads_pb2.UploadFailed():
            kind, reason, detail = NewsKind.FAILED, message.reason, message.detail
        case uploads_pb2.UploadExpired():
            kind, reason = NewsKind.FAILED, "UPLOAD_EXPIRED"
            detail = "No byte arrived for too long."
        case uploads_pb2.UploadAborted():
            kind = NewsKind.ABORTED
        case (
            uploads_pb2.UploadCompleted()
            | nodes_pb2.NodeProcessed()
            | nodes_pb2.NodeProcessingFailed()
            | nodes_pb2.NodeDeleted()
        ):
            pass
        case _:
            return None
    return NodeNews(
        record.key,
        kind,
        record.occurred_at,
        reason,
        detail,
        record.headers.get("traceparent", ""),
    )
