"""The role `sweeper`: periodic recovery and clean-up after crashes."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import structlog

from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import NotFound, SluiceError
from sluice_core.ports.catalogue import ObjectDeletion, ObjectIntent
from sluice_core.ports.quotas import UsageDifference
from sluice_core.uploads.model import UploadSnapshot
from sluice_repository.deps import RepositoryDeps
from sluice_repository.metrics import RepositoryMetrics
from sluice_repository.roles import audit_retention
from sluice_repository.roles.cleanup import Cleaner
from sluice_repository.roles.partials import AbandonedPartials
from sluice_repository.work.due_items import PAGE, walk
from sluice_repository.work.guard import guarded

_log = structlog.get_logger(__name__)
_HINTS = "requeued"
_HINTS_PER_PASS = 10_000
_EXPIRY_PAGE = 5_000
"""Uploads per call. A page of newly seen uploads hides those behind it for a grace period."""
_CLEARED_SECONDS = 7 * 24 * 3600.0
"""Retention of cleared intents: no commit is expected this long after its upload's clean-up."""
_CHANGES_PAGE = 1_000
_LEFTOVER_TOKENS = 1_000
_LEFTOVER_CALLS = 20

Item = TypeVar("Item")


Kinds = dict[str, Callable[[], Awaitable[int]]]


@dataclass(frozen=True, slots=True)
class Swept:
    """What one pass did of one kind of work."""

    kind: str
    done: int
    completed: bool
    """False when an error or a full queue ended it early, which is logged, or it did not begin."""
    failed_items: int
    """Items that could not be cleaned and are still due."""


class Sweeper:
    """One sweeper. `sweep` does every kind of work once; `run` repeats it.

    It recovers from crashes (promise 3: no orphan outlives the sweeper) and has no work while
    nothing fails. Every step is idempotent, so any number of sweepers may run.
    """

    def __init__(self, deps: RepositoryDeps) -> None:
        self._deps = deps
        self._cleaner = Cleaner(deps)
        self._partials = AbandonedPartials(deps)
        self._hint_offset = 0
        """Ready items that earlier passes hinted at and the next pass skips."""
        self._failed_items: Counter[str] = Counter()
        """By kind, since the process started."""
        self._unfinished: set[str] = set()
        """Kinds whose last pass left something for the next one, without an error."""

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep at once, because the in-process queue is empty after a crash; then once per
        interval.

        What grows with the catalogue runs apart, so that it delays no recovery.
        """

        async def repeat(kinds: Kinds, full_pass: float = math.inf) -> None:
            for kind in kinds:
                # 0, and not the time of the start: a process that restarts over and over would
                # look up to date. Alerts count from the first scrape until a pass has ended.
                self._deps.metrics.swept_at.labels(kind)
                self._deps.metrics.sweep_item_failures.labels(kind)
            while not stop.is_set():
                if sum(each.done for each in await self._sweep(kinds)) < full_pass:
                    await wait_at_most(stop, self._deps.options.sweep_interval_seconds)

        async with asyncio.TaskGroup() as group:
            for kinds in (self._recovery(), self._accounts(), self._reconciliation()):
                group.create_task(repeat(kinds))
            group.create_task(repeat(self._retention(), audit_retention.FULL_PASS))

    async def sweep(
        self, *, hints: bool = True, stop: asyncio.Event | None = None
    ) -> Sequence[Swept]:
        """Do every kind once and return what was done.

        Args:
            stop: begin no further kind once it is set.
            hints: also put hints at work into the queue, which are lost if it ends with the caller.
        """
        kinds = {
            **self._recovery(),
            **self._accounts(),
            **self._reconciliation(),
            **self._retention(),
        }
        if not hints:
            del kinds[_HINTS]
        return await self._sweep(kinds, stop)

    async def _sweep(self, kinds: Kinds, stop: asyncio.Event | None = None) -> Sequence[Swept]:
        """Do one pass and return what it did.

        A kind that fails is logged and counted; the other kinds still run.
        """
        swept: list[Swept] = []
        for kind, sweep_kind in kinds.items():
            if stop is not None and stop.is_set():
                swept.append(Swept(kind, 0, completed=False, failed_items=0))
                continue
            done, failed_before = 0, self._failed_items[kind]
            self._unfinished.discard(kind)
            with guarded(self._deps.metrics, "sweeper", kind=kind) as guard:
                done = await sweep_kind()
                self._deps.metrics.swept_at.labels(kind).set(self._deps.clock())
                self._deps.metrics.ledger.sweeps.labels(kind).inc(done)
            failed = self._failed_items[kind] - failed_before
            completed = not guard.failed and kind not in self._unfinished
            swept.append(Swept(kind, done, completed, failed))
        return swept

    def _recovery(self) -> Kinds:
        """Return what ends within seconds.

        The order lets one pass do most: an upload that expires in a pass is cleaned up in it.
        """
        kinds: Kinds = {
            _HINTS: self._requeue,
            "expired": self._expire,
            "cleaned": self._clean_up,
            "purged": self._purge,
            "leftovers": self._drop_leftovers,
        }
        if self._deps.catalogue is not None:
            kinds["intents"] = self._clear_intents
            kinds["deletions"] = self._delete_objects
        return kinds

    def _accounts(self) -> Kinds:
        """Return what grows with the open uploads and the commits."""
        if self._deps.catalogue is None:
            return {}
        return {
            "reservations": self._check_reservations,
            "usage": self._fold_usage,
        }

    def _reconciliation(self) -> Kinds:
        """Return what grows with the nodes: one drive may take many seconds."""
        if self._deps.catalogue is None:
            return {}
        return {"reconciled": self._reconcile_usage, "partials": self._partials.delete}

    def _retention(self) -> Kinds:
        """Return what grows with the audited calls: a shorter retention may make millions due."""
        if self._deps.catalogue is None:
            return {}
        return {"audit": partial(audit_retention.purge_audit, self._deps)}

    async def _requeue(self) -> int:
        """Enqueue hints at all ready work; hints may have been lost with a process (rule 15)."""
        done = 0
        offset = self._hint_offset
        self._hint_offset = 0
        try:
            # A full queue makes `put` wait; it has enough hints then.
            async with asyncio.timeout(self._deps.options.call_timeout_seconds):
                for item in await self._deps.ledger.ready_work(_HINTS_PER_PASS, offset):
                    await self._deps.queue.put(item)
                    done += 1
                if done == _HINTS_PER_PASS:
                    # The next pass continues from here: work that keeps failing stays ready and
                    # must not keep hints from the items behind it.
                    self._hint_offset = offset + done
        except TimeoutError:
            self._unfinished.add(_HINTS)
            _log.warning("queue.full", hints=done)
        return done

    async def _expire(self) -> int:
        """Expire due uploads (rule 24) and wake the relay for their UploadExpired events."""
        done = 0
        while expired := await self._deps.ledger.expire_due(_EXPIRY_PAGE):
            done += len(expired)
            self._deps.relay_wakeup.set()
            for snapshot in expired:
                _log.info(
                    "upload.expired",
                    upload_id=snapshot.upload_id,
                    reason=snapshot.failure_reason,
                )
        return done

    async def _clean_up(self) -> int:
        async def clean(snapshot: UploadSnapshot) -> None:
            await self._cleaner.clean_ended_upload(snapshot)

        return await walk(
            self._deps.ledger.cleanups_due,
            partial(self._attempt, "cleaned", clean),
            lambda snapshot: snapshot.upload_id,
        )

    async def _purge(self) -> int:
        done = 0
        while purged := await self._deps.ledger.purge_due(PAGE):
            done += purged
        return done

    async def _drop_leftovers(self) -> int:
        """Drop unreferenced staged bytes: their sender died before the ledger accepted them."""
        done = 0
        for _ in range(_LEFTOVER_CALLS):
            leftovers = await self._deps.chunks.leftovers(
                self._deps.options.leftover_age_seconds, _LEFTOVER_TOKENS
            )
            for upload_id, tokens in leftovers:
                done += await self._drop_unreferenced(upload_id, tokens)
            # The store iterates cyclically: a short page is the end of a cycle.
            if sum(len(tokens) for _, tokens in leftovers) < _LEFTOVER_TOKENS:
                break
        return done

    async def _drop_unreferenced(self, upload_id: str, tokens: Sequence[str]) -> int:
        try:
            known = await self._deps.ledger.known_tokens(upload_id, tokens)
        except NotFound:
            known = frozenset()
        unreferenced = [token for token in tokens if token not in known]
        if unreferenced:
            await self._deps.chunks.drop(upload_id, unreferenced)
        return len(unreferenced)

    async def _clear_intents(self) -> int:
        catalogue = self._deps.catalogue
        assert catalogue is not None
        older_than = self._deps.clock() - self._deps.options.intent_age_seconds
        cleared_before = await catalogue.now() - _CLEARED_SECONDS
        while await catalogue.purge_cleared_intents(cleared_before, PAGE) == PAGE:
            continue

        async def fetch(limit: int, offset: int) -> Sequence[ObjectIntent]:
            return await catalogue.stale_intents(older_than, limit, offset)

        return await walk(
            fetch,
            partial(self._attempt, "intents", self._cleaner.clean_stale_intent),
            lambda intent: (intent.upload_id, intent.object),
        )

    async def _delete_objects(self) -> int:
        catalogue = self._deps.catalogue
        assert catalogue is not None
        # The database's clock, because this process's clock may have been stepped.
        now = await catalogue.now()

        async def fetch(limit: int, offset: int) -> Sequence[ObjectDeletion]:
            return await catalogue.deletions_due(now, limit, offset)

        return await walk(
            fetch,
            partial(self._attempt, "deletions", self._cleaner.delete_object),
            lambda deletion: deletion.deletion_id,
        )

    async def _check_reservations(self) -> int:
        """Release reservations of uploads that are unknown or ended; the clean-up missed them."""
        catalogue = self._deps.catalogue
        assert catalogue is not None
        since = await catalogue.now() - self._deps.options.reservation_age_seconds
        done = kept = 0
        while True:
            page = await catalogue.reservations_unchecked(since, PAGE, kept)
            checked = await self._cleaner.check_reservations(page)
            done += checked
            kept += len(page) - checked
            # A page without progress: the ledger does not answer, and would not for the next one.
            if len(page) < PAGE or checked == 0:
                return done

    async def _fold_usage(self) -> int:
        catalogue = self._deps.catalogue
        assert catalogue is not None
        done = 0
        while folded := await catalogue.fold_usage(_CHANGES_PAGE):
            done += folded
        return done

    async def _reconcile_usage(self) -> int:
        """Compare the usage of drives with their nodes, each drive once per interval."""
        catalogue = self._deps.catalogue
        assert catalogue is not None
        since = await catalogue.now() - self._deps.options.reconcile_interval_seconds

        async def fetch(limit: int, offset: int) -> Sequence[int]:
            return await catalogue.drives_unreconciled(since, limit, offset)

        async def reconcile(drive_id: int) -> None:
            _report(self._deps.metrics, await catalogue.reconcile_usage(drive_id))

        return await walk(
            fetch, partial(self._attempt, "reconciled", reconcile), lambda drive_id: drive_id
        )

    async def _attempt(
        self, kind: str, clean: Callable[[Item], Awaitable[bool | None]], item: Item
    ) -> bool:
        """Clean one item and return whether it is done; a failed one stays due."""
        try:
            async with asyncio.timeout(self._deps.options.call_timeout_seconds):
                return await clean(item) is not False
        except (SluiceError, TimeoutError) as error:
            self._deps.metrics.sweep_item_failures.labels(kind).inc()
            self._failed_items[kind] += 1
            _log.warning("sweep.item_failed", kind=kind, item=repr(item), error=str(error))
            return False


def _report(metrics: RepositoryMetrics, difference: UsageDifference | None) -> None:
    if difference is None:
        return
    metrics.usage_corrections.inc()
    _log.warning(
        "usage.corrected",
        tenant=difference.tenant,
        drive=difference.drive,
        bytes=difference.bytes,
        nodes=difference.nodes,
    )
