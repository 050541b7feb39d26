"""How an upload begins: found by the indexes before it is there (rule 22)."""

from __future__ import annotations

from sluice_backends.redis import keys
from sluice_backends.redis.ledger.replies import SnapshotReader, settled_as_json
from sluice_backends.redis.ledger.steps import LedgerSteps
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.model import NewUpload, UploadSnapshot
from sluice_core.uploads.planner import uniform_plan
from sluice_core.uploads.states import is_terminal


class Beginnings:
    """Opens uploads. On one server that is one step; in a cluster the indexes are in other slots
    and are written first."""

    def __init__(self, steps: LedgerSteps, reader: SnapshotReader, options: LedgerOptions) -> None:
        self._steps = steps
        self._reader = reader
        self._options = options

    async def create(self, new: NewUpload, *, no_room: bool) -> UploadSnapshot:
        """Open an upload, or find it again.

        Args:
            no_room: none may begin, whatever the budget says.
        """
        plan = uniform_plan(new.part_bytes, new.chunk_size) if new.chunk_size else None
        indexed_at: float | None = None
        if not self._steps.alone:
            no_room = no_room or await self._steps.budget.is_full()
            if not no_room:
                indexed_at = await self.write_into_indexes(new)
        (fields,) = await self._steps.run(
            "create",
            new.upload_id,
            settled_as_json(new),
            new.node_id,
            new.tenant,
            new.fingerprint,
            new.part_bytes,
            new.chunk_size,
            new.expected_size,
            plan.chunks_per_part if plan else None,
            plan.last_tier if plan else None,
            new.sha256.hex() if new.sha256 else None,
            new.crc32c,
            "1" if no_room else "",
            None if indexed_at is None else repr(indexed_at),
        )
        if fields[0] == new.node_id.encode():
            self._reader.remember(new)  # it is this one that was opened, and none found again
        snapshot = await self._reader.snapshot(new.upload_id, fields)
        if indexed_at is not None:
            await self.correct_indexes(snapshot)
        return snapshot

    async def write_into_indexes(self, new: NewUpload) -> float:
        """An entry without an upload is found and dropped, an upload without an entry would never
        be found. Returns the time, by Redis."""
        now, steps = await self._steps.now(), self._steps
        lifetime = min(self._options.idle_lifetime_seconds, self._options.total_lifetime_seconds)
        # With the time of now, also over an entry that is there: it may be the last trace of an
        # upload that was forgotten, and as old as those that the walk drops.
        await steps.index(new.upload_id, new.tenant, now)
        deadlines = keys.deadlines(keys.shard_of(new.upload_id, steps.shards))
        await steps.clients.execute(
            deadlines, "ZADD", deadlines, "NX", now + lifetime, new.upload_id
        )
        return now

    async def correct_indexes(self, snapshot: UploadSnapshot) -> None:
        """The upload may have been there before. A crash before this leaves it to the walk."""
        await self._steps.index(snapshot.upload_id, snapshot.new.tenant, snapshot.created_at)
        if is_terminal(snapshot.status):
            await self._steps.move(snapshot.upload_id, [("deadlines", None)])
