"""Creation of uploads: index entries before the upload (rule 22)."""

from __future__ import annotations

from sluice_backends.redis import keys
from sluice_backends.redis.ledger.replies import SnapshotReader, new_upload_json
from sluice_backends.redis.ledger.steps import LedgerSteps
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.model import NewUpload, UploadSnapshot
from sluice_core.uploads.planner import uniform_plan
from sluice_core.uploads.states import is_terminal


class UploadCreation:
    """Creates uploads.

    On one server that is one step. In a cluster the indexes are in other slots and are written
    first.
    """

    def __init__(self, steps: LedgerSteps, reader: SnapshotReader, options: LedgerOptions) -> None:
        self._steps = steps
        self._reader = reader
        self._options = options

    async def create(self, new: NewUpload, *, no_room: bool) -> UploadSnapshot:
        """Create an upload, or return the existing one.

        Args:
            no_room: refuse a new upload regardless of the budget.
        """
        plan = uniform_plan(new.part_bytes, new.chunk_size) if new.chunk_size else None
        indexed_at: float | None = None
        if not self._steps.is_single_server:
            no_room = no_room or await self._steps.budget.is_full()
            if not no_room:
                indexed_at = await self.write_index_entries(new)
        (fields,) = await self._steps.run(
            "create",
            new.upload_id,
            new_upload_json(new),
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
            self._reader.remember(new)  # created by this call
        snapshot = await self._reader.snapshot(new.upload_id, fields)
        if indexed_at is not None:
            await self.correct_index_entries(snapshot)
        return snapshot

    async def write_index_entries(self, new: NewUpload) -> float:
        """Write the index entries of a new upload; return the server's time.

        They come first: the repair walk drops an entry without an upload, but would never find an
        upload without an entry.
        """
        now, steps = await self._steps.now(), self._steps
        lifetime = min(self._options.idle_lifetime_seconds, self._options.total_lifetime_seconds)
        # Overwrite an existing entry with the current time: it may be left over from a purged
        # upload, and old enough to be dropped by the walk.
        await steps.index(new.upload_id, new.tenant, now)
        deadlines = keys.deadlines(keys.shard_of(new.upload_id, steps.shards))
        await steps.clients.execute(
            deadlines, "ZADD", deadlines, "NX", now + lifetime, new.upload_id
        )
        return now

    async def correct_index_entries(self, snapshot: UploadSnapshot) -> None:
        """Correct the entries of an upload that existed before; after a crash the walk does it."""
        await self._steps.index(snapshot.upload_id, snapshot.new.tenant, snapshot.created_at)
        if is_terminal(snapshot.status):
            await self._steps.move(snapshot.upload_id, [("deadlines", None)])
