"""The role `relay`: brings ledger events and outbox rows to the publisher (rule 22).

What holds: every event is published at least once, with its stable id, and for each node the
first appearances of the ids are in the order in which things happened.

Where it could break is between the two sources, for the completer carries an upload's unpublished
ledger events over into the outbox, in front of UploadCompleted, in the transaction that makes the
node. Each way that can go:

- The relay published a ledger event E that the completer also carried over: E, E, Completed. The
  second E has the id of the first.
- The completer died after its commit, before it dropped E from the ledger: E is in both places.
  The relay may publish it from either first; in the outbox E stands before Completed, so whichever
  it is, E comes before Completed. Its replay finds the node committed and drops E: it is in the
  outbox.
- A page of ledger events ends before E while the outbox already has Completed: E was carried over
  then, in front. The outbox alone is complete and in order for every node it names; this is why
  nothing has to compare the two sources.
- E is in neither: somebody was told by the publisher that it has E, and dropped it.
- Later ledger events of a node that was committed do not exist: COMPLETED is terminal and, with a
  catalogue, silent.

One relay at a time holds a lease. One that lost it may still have a batch in hand; it looks at the
lease before it publishes and gives up publishing when the lease ends, and should a paused process
yet send an old batch late, every id in it was published by its successor before or will be
published again: repetitions, which are harmless, and never an event before its predecessor's first
appearance. Rows are dropped only after the publisher acknowledged them, so nothing is lost.

An event that the publisher refuses for good (it is too large for the topic, say) must not stop the
others, and neither dropping it nor letting later events of its node overtake it would be right. So
the events of that one node are withheld, where they are, and everything else goes on: they are no
part of the pages that are read, so it does not matter how many there are. Some of them are tried
again with every page, each now and then, for an operator may have raised the limit.
"""

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
from sluice_core.ports.catalogue import Catalogue, OutboxPage
from sluice_core.ports.event_publisher import EventRecord, refused_keys
from sluice_repository.deps import RepositoryDeps
from sluice_repository.work.guard import guarded
from sluice_repository.work.leases import Lease

_log = structlog.get_logger(__name__)
_BACKOFF_BASE_SECONDS = 0.2
_BACKOFF_CAP_SECONDS = 10.0
"""After the broker is back, publishing goes on within this time."""
_WITHHELD_SECONDS = 60.0
"""Nodes with a refused event are left alone for so long."""
_WITHHELD_PAGE = 500
"""Withheld rows of the outbox, without their events, that one turn passes."""
_RETRIED_KEYS = 50
"""Nodes with withheld rows that one turn tries again."""


class Relay:
    """One relay; `relay_once` is one page of each source."""

    def __init__(self, deps: RepositoryDeps) -> None:
        self._deps = deps
        self._lease = Lease(deps.catalogue, "relay", deps.holder, deps.options.relay_lease_seconds)
        self._withheld: dict[str, float] = {}
        """Nodes with a refused event, and until when they wait."""
        self._passed = 0
        """The withheld row that the last turn came to."""
        self._in_ledger: dict[str, int] = {}
        """Uploads with events that are withheld in the ledger, and how many."""

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop`; wakes at once when poked, else by polling."""
        failures = 0
        try:
            while not stop.is_set():
                moved = 0
                with guarded(self._deps.metrics, "relay", failures=failures) as relaying:
                    moved = await self.relay_once()
                if relaying.failed:
                    # A poke must not cut this short: what it announces can wait for the broker.
                    failures += 1
                    await wait_at_most(
                        stop,
                        backoff_seconds(failures, _BACKOFF_BASE_SECONDS, _BACKOFF_CAP_SECONDS),
                    )
                    continue
                failures = 0
                if 0 < moved < self._deps.options.relay_batch_events:
                    # Whatever comes in meanwhile goes with the next page: a page costs the same,
                    # whether it brings one event or hundreds.
                    await wait_at_most(stop, self._deps.options.relay_linger_seconds)
                if moved == 0:
                    await wait_at_most(self._deps.relay_poke, self._deps.options.relay_poll_seconds)
        finally:
            await self._lease.release()

    async def relay_once(self) -> int:
        """Publish a page of ledger events, then a page of the outbox; how many were published.

        0 also while another relay holds the lease. Raises `Unavailable` when it is not certain
        that the publisher has the events: they stay and are published again.
        """
        if not await self._lease.hold():
            return 0
        # Cleared before looking: what comes in from now on wakes us again.
        self._deps.relay_poke.clear()
        batch = self._deps.options.relay_batch_events
        metrics, catalogue = self._deps.metrics, self._deps.catalogue
        events = await self._deps.ledger.pending_events(batch)
        if catalogue is None:
            metrics.events_pending.set(len(events))
            moved = await self._relay_ledger(events)
            metrics.events_withheld.set(sum(self._in_ledger.values()))
            return moved
        page = await catalogue.outbox_ready(batch)
        withheld = await catalogue.count_withheld()
        metrics.events_pending.set(len(events) + len(page.rows) + withheld)
        moved = await self._relay_ledger(events)
        moved += await self._retry_outbox(catalogue)
        moved += await self._relay_outbox(catalogue, page)
        metrics.events_withheld.set(
            sum(self._in_ledger.values()) + await catalogue.count_withheld()
        )
        return moved

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
                    await self._deps.ledger.events_published(upload_id, event.sequence)
            except NotFound:
                _log.info("upload_is_forgotten", upload_id=upload_id)
        return sum(1 for event in events if event.node_id not in refused)

    async def _relay_outbox(self, catalogue: Catalogue, page: OutboxPage) -> int:
        """Publish a page, and withhold what has to wait of it."""
        rows = [row for row in page.rows if row.event.key not in page.withheld_keys]
        waiting = page.withheld_keys | await self._publish([row.event for row in rows])
        published = [row.row_id for row in rows if row.event.key not in waiting]
        await catalogue.outbox_published(published)
        await catalogue.withhold([row.row_id for row in page.rows if row.event.key in waiting])
        return len(published)

    async def _retry_outbox(self, catalogue: Catalogue) -> int:
        """Try some nodes again whose events are withheld: one round after the other, all of them.

        A node's withheld events go before those that are not, and in order: all of them are tried,
        or the first ones of them.
        """
        now = asyncio.get_running_loop().time()
        found = await catalogue.withheld_after(self._passed, _WITHHELD_PAGE)
        self._passed = found[-1][0] if len(found) == _WITHHELD_PAGE else 0
        due: set[str] = set()
        for row_id, key in found:
            if self._withheld.get(key, 0.0) > now:
                continue
            due.add(key)
            if len(due) == _RETRIED_KEYS:
                self._passed = row_id
                break
        rows = await catalogue.withheld_of(due, self._deps.options.relay_batch_events)
        refused = await self._publish([row.event for row in rows])
        published = [row.row_id for row in rows if row.event.key not in refused]
        await catalogue.outbox_published(published)
        for key in due - refused:
            self._withheld.pop(key, None)
        return len(published)

    async def _publish(self, events: Sequence[EventRecord]) -> frozenset[str]:
        """Publish all but the events of nodes of which one is refused; returns those nodes."""
        refused: set[str] = set()
        while batch := [event for event in events if event.key not in refused]:
            try:
                await self._publish_batch(batch)
                break
            except InvalidArgument as error:
                # One that is not of this batch would have it published for ever.
                keys = refused_keys(error) & {event.key for event in batch}
                if not keys:
                    raise
                refused |= keys
                _log.error(
                    "event_refused",
                    error=error.message,
                    event_id=error.metadata["event_id"],
                    key=error.metadata["key"],
                    nodes=len(keys),
                )
        until = asyncio.get_running_loop().time() + _WITHHELD_SECONDS
        self._withheld |= dict.fromkeys(refused, until)
        return frozenset(refused)

    async def _publish_batch(self, events: Sequence[EventRecord]) -> None:
        """Publish while the lease is certainly ours."""
        left = self._lease.remaining_seconds()
        if left <= 0:
            raise Unavailable("RELAY_LEASE_LOST", "Another relay may be publishing; wait for it.")
        try:
            async with asyncio.timeout(min(left, self._deps.options.publish_timeout_seconds)):
                await self._deps.publisher.publish(events)
        except TimeoutError:
            raise Unavailable(
                "PUBLISHER_UNAVAILABLE", "The publisher does not acknowledge; trying again."
            ) from None
        crash_point(CrashPoint.AFTER_PUBLISH)
        for event in events:
            self._deps.metrics.events_published.labels(event.topic).inc()
