"""What a member of a consumer group is allowed."""

from __future__ import annotations

from sluice_backends.kafka import receiving
from sluice_backends.kafka.handling import ConsumerOptions
from sluice_backends.kafka.options import KafkaOptions


def test_the_slowest_batches_of_all_partitions_do_not_cost_a_member_its_place() -> None:
    """One event after the other, each as slow as it may be."""
    options = ConsumerOptions(group="g", topics=("t",))
    partitions = KafkaOptions(bootstrap_servers="localhost:9092").partitions
    longest = partitions * options.batch_events * options.handling_seconds
    assert longest < receiving._MAX_POLL_INTERVAL_SECONDS
