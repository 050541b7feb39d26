"""Prometheus instruments of the S3 backend."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sluice_backends.buckets import SLOW_SECONDS


class S3Metrics:
    """Metrics of S3 attempts and of the circuit breaker."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry(auto_describe=True)
        r = self.registry
        self.seconds = Histogram(
            "sluice_s3_seconds",
            "Duration of one attempt including its body; of a read until the first byte",
            ("operation",),
            buckets=SLOW_SECONDS,
            registry=r,
        )
        self.errors = Counter(
            "sluice_s3_errors",
            "Failed S3 attempts, by reason",
            ("operation", "reason"),
            registry=r,
        )
        self.breaker_state = Gauge(
            "sluice_store_breaker_state",
            "Circuit breaker of the object store: 0 closed, 1 half-open, 2 open",
            registry=r,
        )
