"""Sweeper's and relay's side of the ledger: ready work, due uploads, pending events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from sluice_backends.redis.ledger.finder import UploadFinder, gather_bounded
from sluice_backends.redis.ledger.replies import SnapshotReader
from sluice_backends.redis.ledger.steps import LedgerSteps
from sluice_backends.redis.ledger.walk import RepairWalk, purge_everywhere
from sluice_core.errors import Internal, NotFound
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ledger.sweep import RETRIED_UPLOADS
from sluice_core.ports import LedgerEvent, WorkItem, WorkKind
from sluice_core.uploads.model import UploadSnapshot

_READY_PARTS = 1_000
"""Limit per upload; lowest part numbers first."""

_TOKENS = 500
_UNREADABLE_SECONDS = 60.0
"""Delay before an undecodable event, probably of a later release, is read again."""

_log = structlog.get_logger(__name__)


class LedgerSweep:
    """Searches the sorted sets and checks each upload with a step."""

    def __init__(
        self,
        steps: LedgerSteps,
        reader: SnapshotReader,
        options: LedgerOptions,
        catch_up: Callable[[str], Awaitable[object]],
    ) -> None:
        self._steps = steps
        self._reader = reader
        self._options = options
        self._catch_up = catch_up
        self._finder = UploadFinder(steps)
        self._walk = RepairWalk(steps)

    # -- work

    async def ready_work(self, limit: int) -> list[WorkItem]:
        """Return ready work, completions first: each frees all that an upload holds."""
        items = await self._search("completions", self._completion_of, limit)
        items += await self._search("parts", self._parts_of, limit - len(items))
        return items

    async def _search(
        self, kind: str, read: Callable[[str], Awaitable[list[WorkItem]]], limit: int
    ) -> list[WorkItem]:
        items: list[WorkItem] = []
        if limit <= 0:
            return items
        async for page in self._finder.oldest(kind):
            for ready in await gather_bounded(page, read):
                items += ready
            if len(items) >= limit:
                break
        return items[:limit]

    async def _completion_of(self, upload_id: str) -> list[WorkItem]:
        answer = await self._steps.run("ready_completion", upload_id)
        if not answer or not answer[1]:
            await self._finder.remove_stale("completions", upload_id, gone=not answer)
            return []
        return [WorkItem(WorkKind.COMPLETION, upload_id, answer[0].decode())]

    async def _parts_of(self, upload_id: str) -> list[WorkItem]:
        answer = await self._steps.run("ready_parts", upload_id, _READY_PARTS)
        if answer and answer[1]:
            # A process crashed between two bounded steps (rule 12).
            await self._catch_up(upload_id)
            answer = await self._steps.run("ready_parts", upload_id, _READY_PARTS)
        if not answer or not answer[2]:
            await self._finder.remove_stale("parts", upload_id, gone=not answer)
            return []
        tenant, _, parts = answer
        return [WorkItem(WorkKind.PART, upload_id, tenant.decode(), part) for part in parts]

    # -- time

    async def expire_due(self, limit: int) -> list[UploadSnapshot]:
        """Expire uploads by deadline (rule 24) or by budget pressure (rule 9)."""
        if not self._steps.is_single_server:
            await self._walk.run_once()
        due = await self._finder.due("deadlines", limit)
        idle = await self._steps.budget.idle_holders(self._options.pressure_idle_seconds, limit)
        ended = await gather_bounded(
            list(dict.fromkeys([*due, *idle]))[:limit],
            lambda upload_id: self._expire(upload_id, "1" if upload_id in idle else ""),
        )
        return [snapshot for snapshot in ended if snapshot is not None]

    async def _expire(self, upload_id: str, for_pressure: str) -> UploadSnapshot | None:
        outcome, *snapshot = await self._steps.run("expire", upload_id, for_pressure)
        if outcome == b"expired":
            return await self._reader.snapshot(upload_id, *snapshot)
        if outcome in (b"gone", b"ended"):
            await self._finder.remove_stale("deadlines", upload_id, gone=outcome == b"gone")
        return None

    # -- ends

    async def cleanups_due(self, limit: int, offset: int) -> list[UploadSnapshot]:
        """Return ended uploads whose clean-up is due, oldest first."""
        snapshots = []
        for upload_id in await self._finder.due("cleanups", limit, offset):
            answer = await self._steps.run("due_cleanup", upload_id)
            if answer:
                snapshots.append(await self._reader.snapshot(upload_id, *answer))
            else:
                await self._finder.remove_stale("cleanups", upload_id)
        return sorted(snapshots, key=lambda snapshot: (snapshot.created_at, snapshot.upload_id))

    async def purge_due(self, limit: int) -> int:
        purged = 0
        for upload_id in await self._finder.due("purges", limit):
            outcome, *tenant = await self._steps.run("purge", upload_id)
            if outcome == b"kept":
                await self._finder.remove_stale("purges", upload_id)
                continue
            purged += outcome == b"purged"
            if not self._steps.is_single_server:
                await purge_everywhere(self._steps, upload_id, tenant[0].decode() if tenant else "")
        return purged

    async def known_tokens(self, upload_id: str, tokens: Sequence[str]) -> frozenset[str]:
        known: set[str] = set()
        for at in range(0, len(tokens), _TOKENS):
            batch = tokens[at : at + _TOKENS]
            if not self._steps.is_single_server:
                known |= await self._steps.budget.reserved_tokens(batch)
            (referenced,) = await self._steps.run("known_tokens", upload_id, *batch)
            known |= {token.decode() for token in referenced}
        return frozenset(known)

    # -- events

    async def pending_events(self, limit: int) -> list[LedgerEvent]:
        """Return events in order per upload, oldest upload first; then some withheld ones."""
        events = await self._fresh_events(limit)
        for upload_id in await self._finder.due("retries", RETRIED_UPLOADS):
            events += await self._events_of(upload_id, "retries")
        return events

    async def _fresh_events(self, limit: int) -> list[LedgerEvent]:
        events: list[LedgerEvent] = []
        async for page in self._finder.oldest("events"):
            for upload_id in page:
                events += await self._events_of(upload_id, "events")
                if len(events) >= limit:
                    return events[:limit]
        return events

    async def _events_of(self, upload_id: str, kind: str) -> list[LedgerEvent]:
        """Return the events of an upload of a kind of set; none if its entry is stale."""
        events: list[LedgerEvent] = []
        gone = False
        try:
            answer = await self._steps.run(
                "pending_events", upload_id, "1" if kind == "retries" else ""
            )
            if answer:
                events = await self._reader.events(upload_id, *answer)
        except NotFound:
            gone = True
        except Internal as error:
            # Probably of a later release. It must not block other uploads and is not dropped.
            _log.error("ledger.event_decode_failed", upload_id=upload_id, reason=error.reason)
            with suppress(Internal):  # its record cannot be decoded either
                await self._steps.run("withhold_events", upload_id, _UNREADABLE_SECONDS)
            return []
        if not events:
            await self._finder.remove_stale(kind, upload_id, gone=gone)
        return events

    async def upload_events(self, upload_id: str) -> list[LedgerEvent]:
        fields, entries = await self._steps.run("upload_events", upload_id)
        return await self._reader.events(upload_id, fields, entries)

    async def count_open(self) -> int:
        return await self._finder.count("deadlines")
