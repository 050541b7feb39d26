"""Prometheus instruments of the processor."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from sluice_backends.instruments import SLOW_SECONDS, Instruments, Registry
from sluice_backends.kafka.metrics import ConsumerMetrics
from sluice_backends.s3.metrics import S3Metrics
from sluice_common.telemetry.metrics import IntegrityMetrics


class ProcessorMetrics(Instruments):
    """All that a processor exports."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.s3 = r.group(S3Metrics)
        self.consumer = r.group(ConsumerMetrics)
        self.integrity = r.group(IntegrityMetrics)
        self.nodes = Counter(
            "sluice_processor_nodes",
            "Nodes, by outcome and reason",
            ("outcome", "reason"),
            registry=r,
        )
        self.seconds = Histogram(
            "sluice_processor_seconds",
            "Duration of processing stages: read, scan, decode, thumbnail, write",
            ("stage",),
            buckets=SLOW_SECONDS,
            registry=r,
        )
        self.delay_seconds = Histogram(
            "sluice_processor_delay_seconds",
            "Time from an event to the result of its node",
            buckets=SLOW_SECONDS,
            registry=r,
        )
        self.thumbnail_latency = Histogram(
            "thumbnail_latency_ms_histogram",
            "Milliseconds from an event to the thumbnails of its picture",
            buckets=[1000 * seconds for seconds in SLOW_SECONDS],
            registry=r,
        )
        self.in_flight = Gauge("sluice_processor_in_flight", "Nodes being processed", registry=r)
        self.lag = Gauge(
            "sluice_processor_lag",
            "Waiting events or messages, by source; use it for autoscaling",
            ("source",),
            registry=r,
        )
        self.adopted = Counter(
            "sluice_processor_adopted",
            "Nodes created for objects stored without an upload",
            registry=r,
        )
        self.messages = Counter(
            "sluice_processor_messages",
            "Queue messages, by source and outcome: handled, left, malformed",
            ("source", "outcome"),
            registry=r,
        )
        self.passed = Counter(
            "sluice_processor_passed",
            "Store notifications skipped, by reason",
            ("source", "reason"),
            registry=r,
        )
