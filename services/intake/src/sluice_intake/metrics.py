"""Prometheus instruments of the intake."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from sluice_backends.instruments import FAST_SECONDS, Instruments, Registry
from sluice_backends.redis.metrics import RedisMetrics
from sluice_common.rates.metrics import RateMetrics
from sluice_common.telemetry.metrics import LedgerMetrics, RpcMetrics


class IntakeMetrics(Instruments):
    """All that an intake exports."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.rpc = r.group(RpcMetrics)
        self.redis = r.group(RedisMetrics)
        self.ledger = r.group(LedgerMetrics)
        self.rates = r.group(RateMetrics)
        self.chunks = Counter("sluice_chunks", "Chunks, by verdict", ("verdict",), registry=r)
        self.received_bytes = Counter(
            "sluice_received_bytes", "Bytes of newly accepted chunks", registry=r
        )
        self.ack_seconds = Histogram(
            "sluice_ack_seconds",
            "Time from the last byte of a chunk to its acknowledgement, by level",
            ("level",),
            buckets=FAST_SECONDS,
            registry=r,
        )
        self.throttled = Counter(
            "sluice_throttled", "Chunks delayed or refused, by reason", ("reason",), registry=r
        )
