"""Fixtures of the tests against Kafka."""

from __future__ import annotations

import pytest

from sluice_backends.kafka.handling import ConsumerOptions
from sluice_backends.kafka.options import KafkaOptions
from support.kafka import bootstrap_servers, unique_name


@pytest.fixture(scope="session")
def kafka() -> KafkaOptions:
    """Return the options of the broker that `make services-up` started."""
    return KafkaOptions(bootstrap_servers(), partitions=4)


@pytest.fixture
def topic() -> str:
    """Return a topic name unique to this test; the topic does not exist yet."""
    return unique_name()


@pytest.fixture
def options(topic: str) -> ConsumerOptions:
    return ConsumerOptions(
        unique_name("group"), (topic,), retry_base_seconds=0.01, drain_seconds=3.0
    )
