"""`admin sweep`: one pass of a sweeper now."""

from __future__ import annotations

import asyncio

from sluice_backends.discard.events import NoEvents
from sluice_common.rpc.host import process_name
from sluice_common.settings import SluiceSettings
from sluice_core.configuration import ConfigurationError
from sluice_repository.admin.backends import AdminBackends
from sluice_repository.admin.report import Report
from sluice_repository.deps import RepositoryDeps
from sluice_repository.metrics import RepositoryMetrics
from sluice_repository.roles.sweeper import Sweeper
from sluice_repository.settings import repository_options


async def sweep(
    settings: SluiceSettings,
    metrics: RepositoryMetrics,
    backends: AdminBackends,
    report: Report,
    stop: asyncio.Event,
) -> bool:
    """Do every kind of a sweeper's work once; return whether all of it succeeded.

    No kind begins once `stop` is set.
    Any number of sweepers may run beside it: every step is idempotent. Hints at work are left out
    for a queue that ends with this process: its server finds the work at its start.
    """
    if backends.chunks is None or backends.queue is None:
        raise ConfigurationError("the server has its queue and its chunks to itself: it sweeps")
    sweeper = Sweeper(
        RepositoryDeps(
            ledger=backends.ledger,
            chunks=backends.chunks,
            queue=backends.queue,
            objects=backends.objects,
            catalogue=backends.catalogue,
            publisher=NoEvents(),  # a sweeper publishes none; the relay does
            metrics=metrics,
            holder=process_name(),
            options=repository_options(settings),
        )
    )
    passes = await sweeper.sweep(hints=backends.queue_outlives, stop=stop)
    for swept in passes:
        report.result(
            "swept",
            {
                "work": swept.kind,
                "done": swept.done,
                "failed_items": swept.failed_items,
                "completed": swept.completed,
            },
        )
    return all(swept.completed and not swept.failed_items for swept in passes)
