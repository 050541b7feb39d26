"""The walk over all uploads that repairs what a crash between two steps left undone.

Only in a cluster: there an upload, the sorted sets it is found by and the budget are in different
slots and change one after the other (ADR 0009 goes through every gap in between).
"""

from __future__ import annotations

from sluice_backends.redis import keys
from sluice_backends.redis.ledger.finding import ALL_KINDS, each
from sluice_backends.redis.ledger.scripts import INDEXING_SECONDS
from sluice_backends.redis.ledger.steps import LedgerSteps

WALK_UPLOADS = 64
"""Uploads of each shard that one turn of the walk looks at."""

FORGOTTEN_AFTER_SECONDS = 2 * INDEXING_SECONDS
"""An entry without an upload that is so old is nobody's: `create` refuses to use it any more."""


class RepairWalk:
    """Goes on where the last turn ended, whichever process had it: the place is kept in Redis."""

    def __init__(self, steps: LedgerSteps) -> None:
        self._steps = steps

    async def go_on(self) -> None:
        """One turn: some uploads of every shard."""
        now = await self._steps.now()
        for shard in range(self._steps.shards):
            await self._walk(shard, now)

    async def _walk(self, shard: int, now: float) -> None:
        clients = self._steps.clients
        index, place = keys.index(shard), keys.walk(shard)
        at = int(await clients.execute(place, "GET", place) or 0)
        found = await clients.execute(
            index, "ZRANGE", index, at, at + WALK_UPLOADS - 1, "WITHSCORES"
        )
        begun = {
            name.decode(): float(score) for name, score in zip(*[iter(found)] * 2, strict=True)
        }
        there = await each(begun, self._steps.repair)
        gone = [
            upload_id
            for upload_id, known in zip(begun, there, strict=True)
            if not known and now - begun[upload_id] > FORGOTTEN_AFTER_SECONDS
        ]
        for upload_id in gone:
            await forget_everywhere(self._steps, upload_id, "")
        # Ranks move down by what was taken out; a rank that moves otherwise costs one more round.
        at = at + len(begun) - len(gone) if len(begun) == WALK_UPLOADS else 0
        await clients.execute(place, "SET", place, at)


async def forget_everywhere(steps: LedgerSteps, upload_id: str, tenant: str) -> None:
    """Take a forgotten upload out of the budget and of all sets; out of the index last, because
    that is where a walk finds what is left to be done."""
    await steps.budget.forget(upload_id)
    if tenant:
        uploads = keys.uploads_of(tenant)
        await steps.clients.execute(uploads, "ZREM", uploads, upload_id)
    await steps.move(upload_id, [(kind, None) for kind in ALL_KINDS if kind != "index"])
    await steps.move(upload_id, [("index", None)])
