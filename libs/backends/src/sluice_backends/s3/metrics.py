"""Prometheus instruments of the S3 backend."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from sluice_backends.instruments import SLOW_SECONDS, Instruments, Registry


class S3Metrics(Instruments):
    """Metrics of S3 attempts and of the circuit breaker."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
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
