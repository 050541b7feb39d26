"""Repair walk over all uploads of a cluster."""

from __future__ import annotations

from sluice_backends.redis import keys
from sluice_backends.redis.ledger.finder import ALL_KINDS, gather_bounded
from sluice_backends.redis.ledger.scripts import INDEXING_SECONDS
from sluice_backends.redis.ledger.steps import LedgerSteps

WALK_UPLOADS = 64
"""Uploads per shard in one pass of the walk."""

PURGED_AFTER_SECONDS = 2 * INDEXING_SECONDS
"""Age from which an entry without an upload is stale: `create` refuses to use it."""


class RepairWalk:
    """Repairs what a crash between two steps left undone, a bounded number of uploads per pass.

    Only in a cluster: there an upload, its sorted sets and the budget are in different slots and
    change one after the other (ADR 0009 lists every gap). The position is kept in Redis, so any
    process continues the walk.
    """

    def __init__(self, steps: LedgerSteps) -> None:
        self._steps = steps

    async def run_once(self) -> None:
        """Repair the next uploads of every shard."""
        now = await self._steps.now()
        for shard in range(self._steps.shards):
            await self._walk(shard, now)

    async def _walk(self, shard: int, now: float) -> None:
        clients = self._steps.clients
        index, place = keys.index(shard), keys.walk(shard)
        at = int(await clients.execute(place, "GET", place) or 0)
        entries = await clients.execute(
            index, "ZRANGE", index, at, at + WALK_UPLOADS - 1, "WITHSCORES"
        )
        created = {
            name.decode(): float(score) for name, score in zip(*[iter(entries)] * 2, strict=True)
        }
        exist = await gather_bounded(created, self._steps.repair)
        gone = [
            upload_id
            for upload_id, exists in zip(created, exist, strict=True)
            if not exists and now - created[upload_id] > PURGED_AFTER_SECONDS
        ]
        for upload_id in gone:
            await purge_everywhere(self._steps, upload_id, "")
        # Removals shift the ranks; an entry that moves otherwise is checked in the next round.
        at = at + len(created) - len(gone) if len(created) == WALK_UPLOADS else 0
        await clients.execute(place, "SET", place, at)


async def purge_everywhere(steps: LedgerSteps, upload_id: str, tenant: str) -> None:
    """Remove a purged upload from the budget and all sets.

    The index comes last, so that after a crash the walk finds the upload again.
    """
    await steps.budget.purge(upload_id)
    if tenant:
        uploads = keys.tenant_uploads(tenant)
        await steps.clients.execute(uploads, "ZREM", uploads, upload_id)
    await steps.move(upload_id, [(kind, None) for kind in ALL_KINDS if kind != "index"])
    await steps.move(upload_id, [("index", None)])
