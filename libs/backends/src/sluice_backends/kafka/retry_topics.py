"""Delayed retries: `<topic>.<group>.retry`, read by the same group."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sluice_backends.kafka.headers import Headers
from sluice_backends.kafka.producer import Outgoing

_PREFIX = "retry_"


@dataclass(frozen=True, slots=True)
class DelayedRetries:
    """Policy of delayed retries, which do not block the partition of the failed message.

    A postponed message is appended to the retry topic as it came, with its retry number and due
    time in additional headers. The group reads that topic too and waits until each message is due.
    So a retry survives every process, and the number of retries is bounded.
    """

    reasons: frozenset[str]
    limit: int
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """Message as it was first received, also when it comes from a retry topic."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int
    offset: int
    retry_number: int = 0
    """Delayed retries, this one included; 0 for a message from its own topic."""
    due: float = 0.0
    """Seconds since the epoch before which it must not be handled."""


def retry_topic(topic: str, group: str) -> str:
    """Return the name of a group's retry topic."""
    return f"{topic}.{group}.retry"


def with_retry_topics(topics: Collection[str], group: str) -> tuple[str, ...]:
    """Return the topics that a group with delayed retries reads."""
    return (*topics, *(retry_topic(topic, group) for topic in topics))


def delivery_of(raw: Any, topics: Collection[str], group: str) -> Delivery:
    """Return the delivery of a client's record.

    A record of a retry topic carries its original topic, partition and offset in headers. In
    records of other topics such headers are ignored.
    """
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
        retry_number=int(_number(facts, "number")),
        due=_number(facts, "due"),
    )


def delayed_retry(delivery: Delivery, group: str, due: float) -> Outgoing:
    """Return the message of the next delayed retry."""
    facts = {
        "partition": str(delivery.partition),
        "offset": str(delivery.offset),
        "number": str(delivery.retry_number + 1),
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
    """Return a number; 0 if the header is missing or invalid, as in foreign messages."""
    try:
        return float(facts[name])
    except (KeyError, ValueError):
        return 0.0
