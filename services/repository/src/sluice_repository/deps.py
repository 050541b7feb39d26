"""The ports of the background roles, filled in by the composition root."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from sluice_core.ledger.options import Clock
from sluice_core.ports import ChunkStore, UploadLedger, WorkQueue
from sluice_core.ports.catalogue import Catalogue
from sluice_core.ports.event_publisher import EventPublisher
from sluice_core.ports.object_store import ObjectStore
from sluice_repository.metrics import RepositoryMetrics
from sluice_repository.options import RepositoryOptions


@dataclass(frozen=True, slots=True)
class RepositoryDeps:
    """The ports of one repository process.

    `holder` is its unique name in claims and leases. `clock` is the ledger's (one clock per
    deployment). Set `relay_wakeup` to wake the relay before its next poll.
    """

    ledger: UploadLedger
    chunks: ChunkStore
    queue: WorkQueue
    objects: ObjectStore
    catalogue: Catalogue | None
    publisher: EventPublisher
    metrics: RepositoryMetrics
    holder: str
    options: RepositoryOptions = field(default_factory=RepositoryOptions)
    clock: Clock = time.time
    relay_wakeup: asyncio.Event = field(default_factory=asyncio.Event)
