"""Topics that another process has just created."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import LeaderNotAvailableError, NoError, UnknownTopicOrPartitionError

from sluice_backends.kafka import topics
from sluice_backends.kafka.options import KafkaOptions
from sluice_core.errors import Unavailable

TOPIC = "sluice.uploads.v1"
OPTIONS = KafkaOptions("127.0.0.1:1", request_timeout_seconds=2.0)


class Broker:
    """Answers descriptions of a topic with these errors, the last one for ever."""

    def __init__(self, *errors: type[Any]) -> None:
        self._errors = list(errors)
        self.descriptions = 0

    async def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        self.descriptions += 1
        error = self._errors[0] if len(self._errors) == 1 else self._errors.pop(0)
        partitions: list[Any] = [{}] * 12 if error is NoError else []
        return [
            {"topic": name, "error_code": error.errno, "partitions": partitions} for name in names
        ]


async def test_existing_topic_is_awaited_until_described() -> None:
    """The controller knows it before every broker does."""
    broker: Any = Broker(UnknownTopicOrPartitionError, LeaderNotAvailableError, NoError)
    await topics._until_described(broker, OPTIONS, [TOPIC])
    assert broker.descriptions == 3


async def test_topic_that_is_never_described_is_missing() -> None:
    broker: Any = Broker(UnknownTopicOrPartitionError)
    with pytest.raises(Unavailable, match="EVENTS_TOPIC_MISSING"):
        await topics._until_described(broker, OPTIONS, [TOPIC])
    assert broker.descriptions > 3
