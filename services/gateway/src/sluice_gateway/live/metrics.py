"""Prometheus instruments of live updates."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from sluice_backends.instruments import Instruments, Registry


class LiveMetrics(Instruments):
    """Sessions, what they were sent, why they ended."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.sessions = Gauge(
            "sluice_gateway_live_sessions",
            "Open sessions, by transport",
            ("transport",),
            registry=r,
        )
        self.messages = Counter(
            "sluice_gateway_live_messages", "Updates sent, by transport", ("transport",), registry=r
        )
        self.ended = Counter(
            "sluice_gateway_live_ended",
            "Sessions that have ended, by transport and reason",
            ("transport", "reason"),
            registry=r,
        )
        self.ticks = Counter(
            "sluice_gateway_progress_ticks",
            "Ticks of progress, by outcome",
            ("outcome",),
            registry=r,
        )
