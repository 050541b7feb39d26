"""Where events go that a consumer gave up on: `<topic>.<group>.dlq`; or, for now, put off."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sluice_backends.kafka.headers import Headers
from sluice_backends.kafka.later import Delivery, put_off
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.producer import OrderedProducer, Outgoing
from sluice_core.errors import InvalidArgument
from sluice_core.events.cloudevents import to_rfc3339
from sluice_core.uploads.model import MIB

MAX_LETTER_BYTES = 16 * MIB
"""What the topics of dead letters are made to take: what is too large elsewhere ends up there."""

_CAUSE_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an event was given up. `reason` is stable, the detail for people."""

    reason: str
    detail: str
    attempts: int = 0


def dead_letter_topic(topic: str, group: str) -> str:
    return f"{topic}.{group}.dlq"


class DeadLetters:
    """Sends dead letters: the message as it came, with the cause in additional headers."""

    def __init__(self, options: KafkaOptions, group: str) -> None:
        self._group = group
        self._producer = OrderedProducer(options, max_message_bytes=MAX_LETTER_BYTES)

    async def send(self, raw: Any, cause: Cause) -> None:
        """Returns when the broker has the letter. Raises `Unavailable` when that is not certain.

        A message that is too large even for this goes without its value: the headers say where
        the whole one stands.
        """
        letter = self._letter(raw, cause, raw.value or b"")
        try:
            await self._producer.send([letter])
        except InvalidArgument:
            await self._producer.send([self._letter(raw, cause, b"")])

    async def put_off(self, delivery: Delivery, due: float) -> None:
        """Returns when the broker has the later try. Raises `Unavailable` when that is not
        certain."""
        await self._producer.send([put_off(delivery, self._group, due)])

    async def aclose(self) -> None:
        await self._producer.aclose()

    def _letter(self, raw: Any, cause: Cause, value: bytes) -> Outgoing:
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
