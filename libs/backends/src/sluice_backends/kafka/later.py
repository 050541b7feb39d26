"""Messages that are tried again later, without holding up their partition: `<topic>.<group>.retry`.

A message that is put off is appended there as it came, with its number of tries and the time at
which it is due in additional headers; the same group reads that topic too, and waits for each of
its messages until it is due. So it survives every process, and the number of tries is bounded.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sluice_backends.kafka.headers import Headers
from sluice_backends.kafka.producer import Outgoing

_PREFIX = "retry_"


@dataclass(frozen=True, slots=True)
class LaterTries:
    """What is tried again later: causes by their reason, how often, and after how many seconds."""

    reasons: frozenset[str]
    tries: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it was first received, wherever it comes from now."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int
    offset: int
    tried_later: int = 0
    """Later tries, this one included; 0 for what comes from its own topic."""
    due: float = 0.0
    """Seconds since the epoch before which it is not to be handled."""


def retry_topic(topic: str, group: str) -> str:
    """Return the name of the topic of later tries."""
    return f"{topic}.{group}.retry"


def with_retry_topics(topics: Collection[str], group: str) -> tuple[str, ...]:
    """Return the topics that a group with later tries reads."""
    return (*topics, *(retry_topic(topic, group) for topic in topics))


def delivery_of(raw: Any, topics: Collection[str], group: str) -> Delivery:
    """Return the delivery in a client's record; one of a topic of later tries carries where it
    first stood. Headers of that kind in a message of any other topic mean nothing."""
    origin = next((topic for topic in topics if retry_topic(topic, group) == raw.topic), None)
    headers: Headers = [(name, content or b"") for name, content in raw.headers]
    own = [(name, content) for name, content in headers if not name.startswith(_PREFIX)]
    if origin is None:
        return Delivery(raw.topic, raw.key, raw.value, own, raw.partition, raw.offset)
    facts = {name.removeprefix(_PREFIX): content for name, content in headers}
    return Delivery(
        origin,
        raw.key,
        raw.value,
        own,
        partition=int(_number(facts, "partition")),
        offset=int(_number(facts, "offset")),
        tried_later=int(_number(facts, "number")),
        due=_number(facts, "due"),
    )


def put_off(delivery: Delivery, group: str, due: float) -> Outgoing:
    """Return the message of the next later try."""
    facts = {
        "partition": str(delivery.partition),
        "offset": str(delivery.offset),
        "number": str(delivery.tried_later + 1),
        "due": repr(due),
    }
    added = [(f"{_PREFIX}{name}", text.encode()) for name, text in facts.items()]
    return Outgoing(
        topic=retry_topic(delivery.topic, group),
        key=delivery.key or b"",
        value=delivery.value or b"",
        headers=[*delivery.headers, *added],
        name=f"{delivery.topic}/{delivery.partition}/{delivery.offset}",
    )


def _number(facts: dict[str, bytes], name: str) -> float:
    """Return a number, or 0 for a message that something else has put there."""
    try:
        return float(facts[name])
    except (KeyError, ValueError):
        return 0.0
