"""Prometheus instruments of the rate limits."""

from __future__ import annotations

from prometheus_client import Counter

from sluice_backends.instruments import Instruments, Registry


class RateMetrics(Instruments):
    """Metrics of refused and delayed callers."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        self.limited = Counter(
            "sluice_rate_limited",
            "Calls refused and blocks delayed by a rate limit, by kind, whose limit, and outcome",
            ("kind", "scope", "outcome"),
            registry=self.registry,
        )
        self.local_decisions = Counter(
            "sluice_rate_local_decisions",
            "Decisions made with the buckets of one process while Redis did not answer",
            registry=self.registry,
        )
