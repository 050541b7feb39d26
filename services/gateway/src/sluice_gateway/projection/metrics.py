"""Prometheus instruments of the projector and the sweeper of photos."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from sluice_backends.instruments import Instruments, Registry


class ProjectionMetrics(Instruments):
    """Ends of photos, by the names that existing dashboards ask for, and the work behind them."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.completed = Counter(
            "photo_completed", "Photos that were stored and processed", registry=r
        )
        self.failed = Counter(
            "photo_failed", "Photos that failed, by reason", ("reason",), registry=r
        )
        self.changes = Counter(
            "sluice_gateway_photo_changes",
            "Changes of photos by events, by outcome",
            ("outcome",),
            registry=r,
        )
        self.skipped = Counter(
            "sluice_gateway_events_skipped",
            "Events of the log that could not be applied, by reason",
            ("reason",),
            registry=r,
        )
        self.behind = Gauge(
            "sluice_gateway_events_behind",
            "Events of the log that were read and not applied yet",
            registry=r,
        )
        self.swept = Counter(
            "sluice_gateway_swept",
            "What the sweeper of photos mended, by kind",
            ("kind",),
            registry=r,
        )
