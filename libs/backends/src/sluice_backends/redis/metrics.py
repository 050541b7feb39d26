"""Prometheus instruments of the Redis backend."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sluice_backends.buckets import FAST_SECONDS


class RedisMetrics:
    """Metrics of Redis operations and servers."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry(auto_describe=True)
        r = self.registry
        self.seconds = Histogram(
            "sluice_redis_seconds",
            "Time of a command, pipeline or script, waiting for a connection included",
            ("operation",),
            buckets=FAST_SECONDS,
            registry=r,
        )
        self.errors = Counter(
            "sluice_redis_errors",
            "Commands that failed, by operation",
            ("operation",),
            registry=r,
        )
        self.used_bytes = Gauge(
            "sluice_redis_used_bytes", "Memory used by Redis, by server", ("server",), registry=r
        )
        self.max_bytes = Gauge(
            "sluice_redis_max_bytes",
            "Memory limit of Redis, by server; 0 is unlimited",
            ("server",),
            registry=r,
        )
        self.replaced = Counter(
            "sluice_redis_replaced",
            "Detected restarts, failovers and replacements of Redis, by kind",
            ("what",),
            registry=r,
        )
