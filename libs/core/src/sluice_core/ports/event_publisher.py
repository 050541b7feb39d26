"""The event publisher port: facts go out at least once, in order per key."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from sluice_core.errors import InvalidArgument

UPLOADS_TOPIC = "sluice.uploads.v1"
CHUNKS_TOPIC = "sluice.chunks.v1"
NODES_TOPIC = "sluice.nodes.v1"
EVENT_TOPIC_PREFIXES: Final = tuple(
    topic.removesuffix("v1") for topic in (UPLOADS_TOPIC, CHUNKS_TOPIC, NODES_TOPIC)
)
"""How the names of topics begin that carry our events, of any version."""

EVENT_REFUSED: Final = "EVENT_REFUSED"


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One event ready to go: CloudEvents attributes and a serialized protobuf message.

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
        """Publish in the given order per key; returns once the broker has them all.

        Raises `Unavailable` when that is not certain: the caller publishes all of them again
        (event ids make that harmless). Raises `InvalidArgument` EVENT_REFUSED, with `event_id`
        and `key` in its metadata, for an event that can never be published as it is; the others
        are then published again without it. `refused_keys` gives all keys that it names.
        """
        ...


def event_refused(
    event_id: str, key: str, message: str, *, other_keys: Collection[str] = ()
) -> InvalidArgument:
    """What a publisher raises for an event that nobody will ever take."""
    metadata = {"event_id": event_id, "key": key}
    if other_keys:
        metadata["other_keys"] = "\n".join(sorted(other_keys))
    return InvalidArgument(EVENT_REFUSED, message, metadata=metadata)


def refused_keys(error: InvalidArgument) -> frozenset[str]:
    """The keys that a refusal names; empty for any other error."""
    if error.reason != EVENT_REFUSED or "key" not in error.metadata:
        return frozenset()
    others = error.metadata.get("other_keys", "")
    return frozenset([error.metadata["key"], *(others.split("\n") if others else ())])
