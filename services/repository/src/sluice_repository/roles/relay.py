"""The role `relay`: publication of ledger events and outbox rows (rule 22)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import structlog

from sluice_common.process.crash_points import CrashPoint, crash_point
from sluice_core.concurrency.waiting import backoff_seconds, wait_at_most
from sluice_core.errors import InvalidArgument, NotFound, Unavailable
from sluice_core.events.uploads import to_record
from sluice_core.ports import LedgerEvent
from sluice_core.ports.catalogue import Catalogue
from sluice_core.ports.event_publisher import EventRecord, refused_keys
from sluice_core.ports.outbox import OutboxPage
from sluice_repository.deps import RepositoryDeps
from sluice_repository.work.guard import guarded
from sluice_repository.work.leases import Lease

_log = structlog.get_logger(__name__)
_BACKOFF_BASE_SECONDS = 0.2
_BACKOFF_CAP_SECONDS = 10.0
"""Publishing resumes within this time after the broker is back."""
_WITHHELD_SECONDS = 60.0
"""Delay before the events of a node with a refused event are retried."""
_WITHHELD_PAGE = 500
"""Most withheld outbox rows, without their events, that one pass scans."""
_RETRIED_KEYS = 50
"""Most nodes with withheld rows that one pass retries."""


class Relay:
    """One relay; `relay_once` publishes one page of each source.

    Guarantee: every event is published at least once with its stable id, and the first occurrences
    of a node's ids are in the order of its events.

    Order between the two sources. The completer copies an upload's unpublished ledger events into
    the outbox, before UploadCompleted, in the transaction that creates the node. The cases, for a
    ledger event E:

    - The relay published E, and the completer also copied it: E, E, Completed. The second E has
      the id of the first.
    - The completer died after its commit, before it dropped E from the ledger: E is in both
      places. The relay may publish either copy first. In the outbox E precedes Completed, so E is
      published before Completed. The completer's replay finds the node committed and drops E,
      which the outbox has.
    - A page of ledger events ends before E while the outbox already has Completed: then E was
      copied before Completed. The outbox alone is complete and in order for every node that it
      names, so nothing compares the two sources.
    - E is in neither source: the publisher acknowledged it, and it was dropped.
    - There are no later ledger events of a committed node: COMPLETED is terminal and, with a
      catalogue, emits no ledger event.

    One relay at a time holds the lease. A relay checks the lease before it publishes and stops
    publishing when the lease ends. A paused process may still send an old batch late; its successor
    has published every id of it before or will publish it again. Such repetitions are harmless and
    never put an event before the first occurrence of its predecessor. Rows are dropped only after
    the publisher acknowledged them, so nothing is lost.

    An event that the publisher permanently refuses (for example one too large for the topic) must
    not block the others. It must not be dropped, and later events of its node must not overtake
    it. So all events of that node are withheld where they are, and everything else continues.
    Withheld events are not part of the pages that are read, so their number does not matter. Each
    pass retries some of them, each node at intervals, because an operator may have raised the
    limit.
    """

    def __init__(self, deps: RepositoryDeps) -> None:
        self._deps = deps
        self._lease = Lease(deps.catalogue, "relay", deps.holder, deps.options.relay_lease_seconds)
        self._withheld: dict[str, float] = {}
        """Nodes with a refused event, and the loop time of their next retry."""
        self._cursor = 0
        """The last withheld row that the previous pass scanned."""
        self._oldest: float | None = None
        """When the oldest event that the last pass found occurred."""
        deps.metrics.events_oldest_age.set_function(self._oldest_age_seconds)
        self._in_ledger: dict[str, int] = {}
        """The number of withheld ledger events by upload."""

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop`, at each wake-up and otherwise by polling."""
        failures = 0
        loop = asyncio.get_running_loop()
        active_at = loop.time()
        try:
            while not stop.is_set():
                moved = 0
                with guarded(self._deps.metrics, "relay", failures=failures) as relaying:
                    moved = await self.relay_once()
                if relaying.failed:
                    # A wake-up must not shorten the backoff: new events wait for the broker too.
                    failures += 1
                    await wait_at_most(
                        stop,
                        backoff_seconds(failures, _BACKOFF_BASE_SECONDS, _BACKOFF_CAP_SECONDS),
                    )
                    continue
                failures = 0
                if moved:
                    active_at = loop.time()
                if 0 < moved < self._deps.options.relay_batch_events:
                    # Batch: a page costs the same whether it has one event or hundreds.
                    await wait_at_most(stop, self._deps.options.relay_linger_seconds)
                if moved == 0:
                    pause = self._deps.options.relay_pause_seconds(loop.time() - active_at)
                    if await wait_at_most(self._deps.relay_wakeup, pause):
                        active_at = loop.time()
        finally:
            await self._lease.release()

    async def relay_once(self) -> int:
        """Publish a page of ledger events, then a page of the outbox; return how many events.

        Return 0 while another relay holds the lease. Raise `Unavailable` when the publisher may
        not have the events: they stay and are published again.
        """
        # Cleared before reading, so that later events wake the relay again, and without the lease
        # too: a standby whose event stayed set would ask for the lease without a pause.
        self._deps.relay_wakeup.clear()
        if not await self._lease.hold():
            self._forget_backlog()
            return 0
        batch = self._deps.options.relay_batch_events
        metrics, catalogue = self._deps.metrics, self._deps.catalogue
        events = await self._deps.ledger.pending_events(batch)
        if catalogue is None:
            self._note_oldest(events)
            metrics.events_pending.set(len(events))
            moved = await self._relay_ledger(events)
            metrics.events_withheld.set(sum(self._in_ledger.values()))
            return moved
        page = await catalogue.outbox_ready(batch)
        self._note_oldest(
            events, [row.event for row in page.rows if row.event.key not in page.withheld_keys]
        )
        withheld = await catalogue.count_withheld()
        metrics.events_pending.set(len(events) + len(page.rows) + withheld)
        moved = await self._relay_ledger(events)
        if withheld:
            moved += await self._retry_outbox(catalogue)
        moved += await self._relay_outbox(catalogue, page)
        if withheld or page.rows:
            withheld = await catalogue.count_withheld()
        metrics.events_withheld.set(sum(self._in_ledger.values()) + withheld)
        return moved

    def _note_oldest(self, events: Sequence[LedgerEvent], rows: Sequence[EventRecord] = ()) -> None:
        """Note the oldest event that is not withheld; pages hold withheld ones that are due."""
        times = [event.occurred_at for event in events if event.node_id not in self._withheld]
        times += [row.occurred_at for row in rows if row.key not in self._withheld]
        self._oldest = min(times, default=None)

    def _oldest_age_seconds(self) -> float:
        """Return an age that grows between passes too: a relay that cannot read is behind."""
        return 0.0 if self._oldest is None else max(0.0, self._deps.clock() - self._oldest)

    def _forget_backlog(self) -> None:
        """Report no backlog: another relay holds the lease and reports it."""
        self._oldest = None
        self._deps.metrics.events_pending.set(0)
        self._deps.metrics.events_withheld.set(0)

    async def _relay_ledger(self, events: Sequence[LedgerEvent]) -> int:
        refused = await self._publish([to_record(event) for event in events])
        latest = {event.upload_id: event for event in events}
        counts = Counter(event.upload_id for event in events)
        for upload_id, event in latest.items():
            self._in_ledger.pop(upload_id, None)
            try:
                if event.node_id in refused:
                    await self._deps.ledger.withhold_events(upload_id, _WITHHELD_SECONDS)
                    self._in_ledger[upload_id] = counts[upload_id]
                else:
                    self._withheld.pop(event.node_id, None)
                    await self._deps.ledger.events_published(upload_id, event.sequence)
            except NotFound:
                _log.info("upload.purged", upload_id=upload_id)
        return sum(1 for event in events if event.node_id not in refused)

    async def _relay_outbox(self, catalogue: Catalogue, page: OutboxPage) -> int:
        """Publish a page of the outbox, and withhold the rows that must wait."""
        rows = [row for row in page.rows if row.event.key not in page.withheld_keys]
        waiting = page.withheld_keys | await self._publish([row.event for row in rows])
        published = [row.row_id for row in rows if row.event.key not in waiting]
        await catalogue.outbox_published(published)
        await catalogue.withhold([row.row_id for row in page.rows if row.event.key in waiting])
        return len(published)

    async def _retry_outbox(self, catalogue: Catalogue) -> int:
        """Retry some nodes whose events are withheld; successive passes cover all of them.

        A node's withheld events precede its other events. They are retried in order, all of them
        or only the first ones.
        """
        now = asyncio.get_running_loop().time()
        withheld = await catalogue.withheld_after(self._cursor, _WITHHELD_PAGE)
        self._cursor = withheld[-1][0] if len(withheld) == _WITHHELD_PAGE else 0
        due: set[str] = set()
        for row_id, key in withheld:
            if self._withheld.get(key, 0.0) > now:
                continue
            due.add(key)
            if len(due) == _RETRIED_KEYS:
                self._cursor = row_id
                break
        rows = await catalogue.withheld_of(due, self._deps.options.relay_batch_events)
        refused = await self._publish([row.event for row in rows])
        published = [row.row_id for row in rows if row.event.key not in refused]
        await catalogue.outbox_published(published)
        for key in due - refused:
            self._withheld.pop(key, None)
        return len(published)

    async def _publish(self, events: Sequence[EventRecord]) -> frozenset[str]:
        """Publish the events except those of nodes with a refused event; return those nodes."""
        refused: set[str] = set()
        while batch := [event for event in events if event.key not in refused]:
            try:
                await self._publish_batch(batch)
                break
            except InvalidArgument as error:
                # A key outside this batch would make the loop publish it forever.
                keys = refused_keys(error) & {event.key for event in batch}
                if not keys:
                    raise
                refused |= keys
                _log.error(
                    "event.refused",
                    error=error.message,
                    event_id=error.metadata["event_id"],
                    key=error.metadata["key"],
                    nodes=len(keys),
                )
        until = asyncio.get_running_loop().time() + _WITHHELD_SECONDS
        self._withheld |= dict.fromkeys(refused, until)
        return frozenset(refused)

    async def _publish_batch(self, events: Sequence[EventRecord]) -> None:
        """Publish a batch within the time for which the lease is certainly held."""
        left = self._lease.remaining_seconds()
        if left <= 0:
            raise Unavailable(
                "RELAY_LEASE_LOST", "The lease ended; another relay may publish. Retrying later."
            )
        try:
            async with asyncio.timeout(min(left, self._deps.options.publish_timeout_seconds)):
                await self._deps.publisher.publish(events)
        except TimeoutError:
            raise Unavailable(
                "PUBLISHER_UNAVAILABLE", "The publisher does not acknowledge; retrying later."
            ) from None
        crash_point(CrashPoint.AFTER_PUBLISH)
        for event in events:
            self._deps.metrics.events_published.labels(event.topic).inc()
