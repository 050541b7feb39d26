"""Prometheus instruments of the Kafka backend."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sluice_backends.buckets import FAST_SECONDS


class KafkaMetrics:
    """Metrics of publishers and consumers."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry(auto_describe=True)
        r = self.registry
        self.publish_seconds = Histogram(
            "sluice_event_publish_seconds",
            "Time until the broker acknowledged all events of a call",
            buckets=FAST_SECONDS,
            registry=r,
        )
        self.publish_errors = Counter(
            "sluice_event_publish_errors",
            "Failed or cancelled calls of the event publisher, by reason",
            ("reason",),
            registry=r,
        )
        self.consumed = Counter(
            "sluice_consumer_events",
            "Consumed events, by outcome",
            ("group", "topic", "outcome"),
            registry=r,
        )
        self.lag = Gauge(
            "sluice_consumer_lag",
            "Events between the committed offset and the end of the partition",
            ("group", "topic", "partition"),
            registry=r,
        )
