"""Dead letters (`<topic>.<group>.dlq`) and delayed retries of a consumer group."""

from __future__ import annotations

import time
from typing import Any

from sluice_backends.kafka.headers import Headers
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.producer import OrderedProducer, Outgoing
from sluice_backends.kafka.retry_topics import Delivery, delayed_retry
from sluice_core.concurrency.attempts import FinalFailure
from sluice_core.errors import InvalidArgument
from sluice_core.events.cloudevents import to_rfc3339
from sluice_core.uploads.model import MIB

MAX_LETTER_BYTES = 16 * MIB
"""`max.message.bytes` of dead letter topics: they take what is too large for other topics."""

_CAUSE_CHARACTERS = 1000


def dead_letter_topic(topic: str, group: str) -> str:
    """Return the name of the topic of a group's dead letters."""
    return f"{topic}.{group}.dlq"


class DeadLetters:
    """Writer of dead letters: the original message, with the cause in additional headers."""

    def __init__(self, options: KafkaOptions, group: str) -> None:
        self._group = group
        self._producer = OrderedProducer(options, max_message_bytes=MAX_LETTER_BYTES)

    async def send(self, raw: Any, cause: FinalFailure) -> None:
        """Write a dead letter; return when the broker has acknowledged it.

        A message larger than `MAX_LETTER_BYTES` is written without its value; its headers name
        the original's topic, partition and offset. Raise `Unavailable` when the outcome is
        uncertain.
        """
        letter = self._letter(raw, cause, raw.value or b"")
        try:
            await self._producer.send([letter])
        except InvalidArgument:
            await self._producer.send([self._letter(raw, cause, b"")])

    async def postpone(self, delivery: Delivery, due: float) -> None:
        """Write a delayed retry; return when the broker has acknowledged it.

        Raise `Unavailable` when the outcome is uncertain.
        """
        await self._producer.send([delayed_retry(delivery, self._group, due)])

    async def aclose(self) -> None:
        await self._producer.aclose()

    def _letter(self, raw: Any, cause: FinalFailure, value: bytes) -> Outgoing:
        facts = {
            "reason": cause.reason,
            "detail": cause.detail[:_CAUSE_CHARACTERS],
            "attempts": str(cause.attempts),
            "topic": raw.topic,
            "partition": str(raw.partition),
            "offset": str(raw.offset),
            "time": to_rfc3339(time.time()),
        }
        headers: Headers = [(name, content or b"") for name, content in raw.headers]
        headers += [(f"dlq_{name}", text.encode()) for name, text in facts.items()]
        return Outgoing(
            topic=dead_letter_topic(raw.topic, self._group),
            key=raw.key or b"",
            value=value,
            headers=headers,
            name=f"{raw.topic}/{raw.partition}/{raw.offset}",
        )
