"""Unit tests: limits of a consumer group member."""

from __future__ import annotations

from sluice_backends.kafka import receiving
from sluice_backends.kafka.handling import ConsumerOptions
from sluice_backends.kafka.options import KafkaOptions


def test_slowest_batches_stay_below_the_poll_interval() -> None:
    """All events of all partitions in sequence, each at its time limit."""
    options = ConsumerOptions(group="g", topics=("t",))
    partitions = KafkaOptions(bootstrap_servers="localhost:9092").partitions
    longest = partitions * options.batch_events * options.handling_seconds
    assert longest < receiving._MAX_POLL_INTERVAL_SECONDS
