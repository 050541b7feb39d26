"""Prometheus instruments of the Redis backend."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sluice_backends.buckets import FAST_SECONDS


class RedisMetrics:
    """What Redis does and how it is doing."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry(auto_describe=True)
        r = self.registry
        self.seconds = Histogram(
            "sluice_redis_seconds",
            "Time of a command, pipeline or script on Redis, waiting for a connection included",
            ("operation",),
            buckets=FAST_SECONDS,
            registry=r,
        )
        self.errors = Counter(
            "sluice_redis_errors",
            "Commands that Redis refused or did not answer",
            ("operation",),
            registry=r,
        )
        self.used_bytes = Gauge(
            "sluice_redis_used_bytes", "Memory that Redis uses, by server", ("server",), registry=r
        )
        self.max_bytes = Gauge(
            "sluice_redis_max_bytes",
            "Memory that Redis may use, by server; 0 is no limit",
            ("server",),
            registry=r,
        )
        self.replaced = Counter(
            "sluice_redis_replaced",
            "Times that Redis was found restarted, failed over or emptied",
            ("what",),
            registry=r,
        )
