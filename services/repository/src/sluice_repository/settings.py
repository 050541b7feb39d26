"""Conversion of the process settings to the options of roles and readers."""

from __future__ import annotations

from sluice_common.settings import SluiceSettings
from sluice_repository.options import RepositoryOptions
from sluice_repository.rpc.reader_slots import ReaderOptions
from sluice_repository.serving import RPC_SHARE


def repository_options(settings: SluiceSettings) -> RepositoryOptions:
    """Return the options of the settings; all others keep their defaults."""
    return RepositoryOptions(
        part_workers=settings.workers.parts,
        completion_workers=settings.workers.completions,
        lease_seconds=settings.queue.lease_seconds,
        heartbeat_seconds=settings.queue.heartbeat_seconds,
        part_timeout_seconds=settings.workers.part_timeout_seconds,
        sweep_interval_seconds=settings.sweeper.interval_seconds,
        leftover_age_seconds=settings.sweeper.leftover_age_seconds,
        intent_age_seconds=settings.sweeper.intent_age_seconds,
        audit_retention_seconds=settings.audit.retention_days * 24 * 3600.0,
        verify_bytes_per_second=settings.workers.verify_bytes_per_second,
        drain_seconds=settings.drain_seconds * (1 - RPC_SHARE),
    )


def reader_options(settings: SluiceSettings) -> ReaderOptions:
    """Return the limits for reading clients.

    They leave a quarter of the object store's reads to the repository itself, so that a completion
    never waits for a download.
    """
    reads = settings.reads
    max_readers = min(reads.max_readers, max(1, settings.s3.max_reads * 3 // 4))
    return ReaderOptions(
        max_readers=max_readers,
        per_tenant=min(reads.per_tenant, max_readers),
        per_connection=min(reads.per_connection, max_readers),
        wait_seconds=reads.wait_seconds,
        yield_seconds=reads.yield_seconds,
        stall_seconds=reads.stall_seconds,
    )
