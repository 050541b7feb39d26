"""Prometheus instruments of the Kafka backend."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from sluice_backends.instruments import FAST_SECONDS, Instruments, Registry


class PublisherMetrics(Instruments):
    """Metrics of the event publisher."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
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


class ConsumerMetrics(Instruments):
    """Metrics of consumers."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.consumed = Counter(
            "sluice_consumer_events",
            "Consumed events, by outcome",
            ("group", "topic", "outcome"),
            registry=r,
        )
        self.dead_letters = Counter(
            "sluice_dead_letters",
            "Events that a consumer gave up on, by consumer group; `log` is the event log",
            ("group",),
            registry=r,
        )
        self.lag = Gauge(
            "sluice_consumer_lag",
            "Events between the committed offset and the end of the partition",
            ("group", "topic", "partition"),
            registry=r,
        )
