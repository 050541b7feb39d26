"""Registry of event messages by CloudEvents type. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from sluice.events.v1 import nodes_pb2, uploads_pb2
from sluice.photos.v1 import events_pb2 as photos_pb2
from sluice_core.ports.event_publisher import EventRecord

_FILES: Final = (uploads_pb2.DESCRIPTOR, nodes_pb2.DESCRIPTOR, photos_pb2.DESCRIPTOR)


class BadEvent(ValueError):
    """Unreadable event. `reason` is stable; the message is for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _with_header(files: tuple[FileDescriptor, ...]) -> Mapping[str, type[Message]]:
    """Return the event messages of these files: those with an EventHeader."""
    return MappingProxyType(
        {
            descriptor.full_name: GetMessageClass(descriptor)
            for file in files
            for descriptor in file.message_types_by_name.values()
            if "header" in descriptor.fields_by_name
        }
    )


EVENT_TYPES: Final = _with_header(_FILES)
"""Message classes by full name, e.g. sluice.events.v1.UploadCompleted."""


def parse(event_type: str, payload: bytes) -> Message:
    """Return the message; raise `BadEvent` UNKNOWN_TYPE (unknown to this release), NOT_PROTOBUF."""
    message_type = EVENT_TYPES.get(event_type)
    if message_type is None:
        raise BadEvent("UNKNOWN_TYPE", f"{event_type} is no event that this release knows")
    try:
        return message_type.FromString(payload)
    except DecodeError:
        raise BadEvent("NOT_PROTOBUF", f"the payload is no {event_type}") from None


def parse_record(record: EventRecord) -> Message:
    """Return the message of an event after checking that envelope and payload agree.

    Raise `BadEvent`, also with WRONG_KEY, WRONG_ID and WRONG_TENANT: an envelope that differs from
    its payload was forged or damaged, and would be handled out of order, twice, or for another
    tenant.
    """
    message = parse(record.type, record.payload)
    header: uploads_pb2.EventHeader = getattr(message, "header")  # noqa: B009 - generated field
    if header.event_id != record.event_id:
        raise BadEvent("WRONG_ID", "the event's id is not that of its payload")
    if header.tenant != record.tenant:
        raise BadEvent("WRONG_TENANT", "the event's tenant is not that of its payload")
    if _key_of(message, record.key) != record.key:
        raise BadEvent("WRONG_KEY", "the event's key is not that of its payload")
    return message


def _key_of(message: Message, default: str) -> str:
    """Return the node of the event, or its job if it is of no node."""
    key: str = getattr(message, "node_id", getattr(message, "job_id", default))
    return key
