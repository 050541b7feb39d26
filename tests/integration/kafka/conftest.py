"""Fixtures of the tests against Kafka."""

from __future__ import annotations

import pytest

from sluice_backends.kafka.options import KafkaOptions
from support.kafka import bootstrap_servers, unique_name


@pytest.fixture(scope="session")
def kafka() -> KafkaOptions:
    """The broker that `make services-up` started."""
    return KafkaOptions(bootstrap_servers(), partitions=4)


@pytest.fixture
def topic() -> str:
    """A topic of this test's own; nobody has made it yet."""
    return unique_name()
