"""Prometheus instruments of the repository."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from sluice_backends.instruments import SLOW_SECONDS, Instruments, Registry
from sluice_backends.kafka.metrics import PublisherMetrics
from sluice_backends.redis.metrics import RedisMetrics
from sluice_backends.s3.metrics import S3Metrics
from sluice_common.rates.metrics import RateMetrics
from sluice_common.telemetry.metrics import IntegrityMetrics, LedgerMetrics, RpcMetrics
from sluice_core.ports import WorkKind
from sluice_core.uploads.model import MIB

BACKGROUND_ROLES: Final = ("parts", "completer", "sweeper", "relay", "gauges", "verifier")
"""Values of the label `role`."""


class SizeClass(StrEnum):
    """Sizes of uploads, as classes of the time that completing them takes."""

    SMALL = "small"
    """Below 8 MiB: one part with the default settings."""
    MEDIUM = "medium"
    LARGE = "large"
    """1 GiB and more."""

    @classmethod
    def of(cls, size_bytes: int) -> SizeClass:
        if size_bytes < 8 * MIB:
            return cls.SMALL
        return cls.MEDIUM if size_bytes < 1024 * MIB else cls.LARGE


class RepositoryMetrics(Instruments):
    """All that a repository exports."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.rpc = r.group(RpcMetrics)
        self.redis = r.group(RedisMetrics)
        self.s3 = r.group(S3Metrics)
        self.publisher = r.group(PublisherMetrics)
        self.ledger = r.group(LedgerMetrics)
        self.rates = r.group(RateMetrics)
        self.integrity = r.group(IntegrityMetrics)
        self.queue_items = Gauge("sluice_queue_items", "Work items waiting", registry=r)
        self.queue_age_seconds = Gauge(
            "sluice_queue_oldest_age_seconds",
            "Age of the oldest waiting work item in seconds",
            registry=r,
        )
        self.queued_bytes = Gauge(
            "sluice_queued_bytes", "Accepted and not yet stored bytes", registry=r
        )
        self.open_uploads = Gauge("sluice_open_uploads", "Uploads in progress", registry=r)
        self.items: Final[Mapping[WorkKind, Counter]] = {
            WorkKind.PART: Counter("sluice_parts", "Parts, by outcome", ("outcome",), registry=r),
            WorkKind.COMPLETION: Counter(
                "sluice_completions", "Completions, by outcome", ("outcome",), registry=r
            ),
        }
        """Handled work items, by outcome."""
        self.part_bytes = Counter("sluice_part_bytes", "Bytes of stored parts", registry=r)
        self.part_seconds = Histogram(
            "sluice_part_seconds", "Duration of storing a part", buckets=SLOW_SECONDS, registry=r
        )
        self.completion_seconds = Histogram(
            "sluice_completion_seconds",
            "Duration of completing an upload",
            buckets=SLOW_SECONDS,
            registry=r,
        )
        self.upload_seconds = Histogram(
            "sluice_upload_completion_seconds",
            "Time from the request to complete an upload to COMPLETED, by size class",
            ("size",),
            buckets=SLOW_SECONDS,
            registry=r,
        )
        for size in SizeClass:
            self.upload_seconds.labels(size)
        self.events_published = Counter(
            "sluice_events_published", "Events published, by topic", ("topic",), registry=r
        )
        self.events_pending = Gauge(
            "sluice_events_pending", "Unpublished events found by the last relay pass", registry=r
        )
        self.events_oldest_age = Gauge(
            "sluice_events_oldest_age_seconds",
            "Age of the oldest unpublished event that is not withheld; 0 without one",
            registry=r,
        )
        self.events_withheld = Gauge(
            "sluice_events_withheld",
            "Events withheld because the broker refuses an earlier one of their node",
            registry=r,
        )
        self.swept_at = Gauge(
            "sluice_sweep_timestamp_seconds",
            "End of the last pass of the sweeper without an error, by kind, Unix time; 0 before it",
            ("kind",),
            registry=r,
        )
        self.sweep_item_failures = Counter(
            "sluice_sweep_item_failures",
            "Items that the sweeper could not clean and retries, by kind",
            ("kind",),
            registry=r,
        )
        self.migrations_pending = Gauge(
            "sluice_catalogue_migrations_pending",
            "Migrations of this release that the database of the catalogue lacks",
            registry=r,
        )
        self.role_running = Gauge(
            "sluice_role_running", "1 for each role of the process", ("role",), registry=r
        )
        self.role_errors = Counter(
            "sluice_role_errors",
            "Unexpected errors in background roles, by role",
            ("role",),
            registry=r,
        )
        # A series that begins with its first error has no increase that an alert could see.
        for role in BACKGROUND_ROLES:
            self.role_errors.labels(role)
        self.usage_corrections = Counter(
            "sluice_usage_corrections",
            "Drives whose counted usage differed from their nodes",
            registry=r,
        )
        # Direct transport: chunks from intakes
        self.sink_chunks = Counter(
            "sluice_sink_chunks",
            "Chunks received from intakes, by outcome",
            ("outcome",),
            registry=r,
        )
        self.sink_bytes = Counter(
            "sluice_sink_bytes", "Bytes of chunks received from intakes", registry=r
        )
