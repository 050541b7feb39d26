"""Prometheus instruments of the standalone: those of all services, on one registry."""

from __future__ import annotations

from sluice_backends.instruments import Instruments, Registry
from sluice_common.telemetry.metrics import DiskMetrics
from sluice_gateway.metrics import GatewayMetrics
from sluice_intake.metrics import IntakeMetrics
from sluice_processor.metrics import ProcessorMetrics
from sluice_repository.metrics import RepositoryMetrics


class StandaloneMetrics(Instruments):
    """All that `sluice serve` exports."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.intake = r.group(IntakeMetrics)
        self.repository = r.group(RepositoryMetrics)
        self.processor = r.group(ProcessorMetrics)
        self.gateway = r.group(GatewayMetrics)
        self.disk = r.group(DiskMetrics)
