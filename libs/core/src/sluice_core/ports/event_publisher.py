"""Event publisher port: at least once, in order per key."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from sluice_core.errors import InvalidArgument

UPLOADS_TOPIC = "sluice.uploads.v1"
CHUNKS_TOPIC = "sluice.chunks.v1"
NODES_TOPIC = "sluice.nodes.v1"
PHOTOS_TOPIC = "sluice.photos.v1"
EVENT_TOPIC_PREFIXES: Final = tuple(
    topic.removesuffix("v1") for topic in (UPLOADS_TOPIC, CHUNKS_TOPIC, NODES_TOPIC, PHOTOS_TOPIC)
)
"""Prefixes of the topics that carry Sluice's events, of any version."""

EVENT_REFUSED: Final = "EVENT_REFUSED"


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Event ready to publish: CloudEvents attributes and a serialized protobuf message.

    `type` is the full protobuf message name, e.g. sluice.events.v1.UploadCompleted.
    """

    event_id: str
    type: str
    topic: str
    key: str
    tenant: str
    occurred_at: float
    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class EventPublisher(Protocol):
    async def publish(self, events: Sequence[EventRecord]) -> None:
        """Publish in the given order per key; return when the broker has acknowledged all events.

        Raise `Unavailable` when that is uncertain: the caller publishes all of them again, which
        event ids make harmless. Raise `InvalidArgument` EVENT_REFUSED, with `event_id` and `key`
        in its metadata, for an event that can never be published; the caller publishes the others
        again without it. `refused_keys` returns all keys of such an error.
        """
        ...


def event_refused(
    event_id: str, key: str, message: str, *, other_keys: Collection[str] = ()
) -> InvalidArgument:
    """Return the error for an event that can never be published."""
    metadata = {"event_id": event_id, "key": key}
    if other_keys:
        metadata["other_keys"] = "\n".join(sorted(other_keys))
    return InvalidArgument(EVENT_REFUSED, message, metadata=metadata)


def refused_keys(error: InvalidArgument) -> frozenset[str]:
    """Return the keys of an EVENT_REFUSED error; empty for any other error."""
    if error.reason != EVENT_REFUSED or "key" not in error.metadata:
        return frozenset()
    others = error.metadata.get("other_keys", "")
    return frozenset([error.metadata["key"], *(others.split("\n") if others else ())])
