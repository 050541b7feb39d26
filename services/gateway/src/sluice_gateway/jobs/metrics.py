"""Prometheus instruments of jobs and photos."""

from __future__ import annotations

from prometheus_client import Counter

from sluice_backends.instruments import Instruments, Registry


class JobMetrics(Instruments):
    """Metrics of the commands, some with names that the dashboards of other stacks ask for."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.created = Counter("upload_job_created", "Upload jobs created", registry=r)
        self.photos = Counter("sluice_gateway_photos", "Photos of the created jobs", registry=r)
        self.deferred = Counter(
            "sluice_gateway_jobs_deferred", "New jobs refused under back-pressure", registry=r
        )
