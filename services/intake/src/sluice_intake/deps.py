"""The ports of an intake, filled in by the composition root."""

from __future__ import annotations

from dataclasses import dataclass, field

from sluice_common.rates.limiter import RateLimiter
from sluice_core.ports import ChunkStore, UploadLedger, WorkQueue
from sluice_intake.drives import DriveDirectory
from sluice_intake.metrics import IntakeMetrics
from sluice_intake.options import IntakeOptions


@dataclass(frozen=True, slots=True)
class IntakeDeps:
    """The dependencies of an intake. The caller owns them and closes them after the server."""

    ledger: UploadLedger
    chunks: ChunkStore
    queue: WorkQueue
    drives: DriveDirectory
    metrics: IntakeMetrics
    options: IntakeOptions = field(default_factory=IntakeOptions)
    limiter: RateLimiter | None = None
