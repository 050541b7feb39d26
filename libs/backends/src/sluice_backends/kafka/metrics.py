"""Prometheus instruments of the Kafka backend."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sluice_backends.buckets import FAST_SECONDS


class KafkaMetrics:
    """What publishers and consumers do."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry(auto_describe=True)
        r = self.registry
        self.publish_seconds = Histogram(
            "sluice_event_publish_seconds",
            "Time until the broker had acknowledged all events of one call",
            buckets=FAST_SECONDS,
            registry=r,
        )
        self.publish_errors = Counter(
            "sluice_event_publish_errors",
            "Calls after which it is not certain that the broker has the events, by reason",
            ("reason",),
            registry=r,
        )
        self.consumed = Counter(
            "sluice_consumer_events",
            "Events by what a consumer did with them",
            ("group", "topic", "outcome"),
            registry=r,
        )
        self.lag = Gauge(
            "sluice_consumer_lag",
            "Events between what a consumer has handled and the end of the partition",
            ("group", "topic", "partition"),
            registry=r,
        )
