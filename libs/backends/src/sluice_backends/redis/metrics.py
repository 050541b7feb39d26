"""Prometheus instruments of the Redis backend."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from sluice_backends.instruments import FAST_SECONDS, Instruments, Registry


class RedisMetrics(Instruments):
    """Metrics of Redis operations and servers."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
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
        self.durability_met = Gauge(
            "sluice_redis_durability_met",
            "Whether a server can keep the configured durability class, by server: 1 or 0",
            ("server",),
            registry=r,
        )
        self.replaced = Counter(
            "sluice_redis_replaced",
            "Detected restarts, failovers and replacements of Redis, by kind",
            ("what",),
            registry=r,
        )
        # A series that begins with its first event has no increase that an alert could see.
        for what in ("emptied", "restarted", "failed_over"):
            self.replaced.labels(what)
