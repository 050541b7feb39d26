"""Groups of Prometheus instruments that several services share.

Each service declares its own in its `metrics.py`, each backend in that of its package."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from sluice_backends.instruments import SLOW_SECONDS, Instruments, Registry

_RPC = ("grpc_type", "grpc_service", "grpc_method")

INTEGRITY_CHECKS: Final = ("chunk_store", "object_store", "completion", "verifier", "processor")
"""Places where checksums are compared: values of the label `where`."""


class AuditMetrics(Instruments):
    """Metrics of the audit log, which gRPC and HTTP write to."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        self.dropped = Counter(
            "sluice_audit_refusals_dropped",
            "Refused calls that are missing in the audit log, or in the log of an intake",
            registry=self.registry,
        )


class RpcMetrics(Instruments):
    """Metrics of the gRPC server, with the names of the grpc-ecosystem interceptors."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.started = Counter("grpc_server_started", "RPCs started", _RPC, registry=r)
        self.handled = Counter(
            "grpc_server_handled", "RPCs finished, by status", (*_RPC, "grpc_code"), registry=r
        )
        self.seconds = Histogram(
            "grpc_server_handling_seconds",
            "Duration of RPCs",
            _RPC,
            buckets=SLOW_SECONDS,
            registry=r,
        )
        self.received = Counter("grpc_server_msg_received", "Messages received", _RPC, registry=r)
        self.sent = Counter("grpc_server_msg_sent", "Messages sent", _RPC, registry=r)
        self.refused_messages = Counter(
            "sluice_refused_messages",
            "Request messages refused as malformed, too large or unfinished, by reason",
            ("reason",),
            registry=r,
        )
        self.auth_accepted = Counter(
            "sluice_auth_accepted", "Calls with valid credentials, or that need none", registry=r
        )
        self.auth_refused = Counter(
            "sluice_auth_refused",
            "Calls refused because of their credentials, by reason",
            ("reason",),
            registry=r,
        )
        self.auth_expired_streams = Counter(
            "sluice_auth_expired_streams",
            "Streams ended because they outlived the token of their caller",
            registry=r,
        )
        self.audit_dropped = r.group(AuditMetrics).dropped


class LedgerMetrics(Instruments):
    """Metrics of the budget and of the sweeps, which the repository does, or a lone intake."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.budget_bytes = Gauge(
            "sluice_budget_bytes", "Limit of accepted and not yet stored bytes", registry=r
        )
        self.sweeps = Counter(
            "sluice_sweeps", "Actions of the sweeper, by kind", ("kind",), registry=r
        )


class IntegrityMetrics(Instruments):
    """Metrics of checksums that the repository and the processor compute of stored bytes."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.failures = Counter(
            "sluice_integrity_failures",
            "Checksum mismatches, by place of detection",
            ("where",),
            registry=r,
        )
        # A series that begins with its first failure has no increase that an alert could see.
        for where in INTEGRITY_CHECKS:
            self.failures.labels(where)
        self.verified = Counter(
            "sluice_nodes_verified", "Nodes whose SHA-256 was computed after completion", registry=r
        )


class DiskMetrics(Instruments):
    """Room on the file system of a data directory."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.free = Gauge(
            "sluice_data_disk_free_bytes",
            "Free bytes on the file system of the data directory",
            registry=r,
        )
        self.size = Gauge(
            "sluice_data_disk_size_bytes",
            "Size of the file system of the data directory",
            registry=r,
        )

    def watch(self, directory: Path) -> None:
        """Read the file system of this directory at every scrape."""
        self.free.set_function(lambda: shutil.disk_usage(directory).free)
        self.size.set_function(lambda: shutil.disk_usage(directory).total)
