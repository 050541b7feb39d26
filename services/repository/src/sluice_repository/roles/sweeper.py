"""The role `sweeper`: looks for what was forgotten, every few seconds, and sets it going or away.

Nothing here is needed while all goes well; everything here is what heals a crash (promise 3: no
orphan outlives the sweeper). All of it is idempotent, so any number of sweepers do no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import structlog

from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import NotFound, SluiceError
from sluice_core.ports.catalogue import ObjectDeletion, ObjectIntent
from sluice_core.uploads.model import UploadSnapshot
from sluice_repository.deps import RepositoryDeps
from sluice_repository.roles.cleanup import Cleaner
from sluice_repository.work.due_items import PAGE, walk
from sluice_repository.work.guard import guarded

_log = structlog.get_logger(__name__)
_HINTS_PER_PASS = 10_000
_EXPIRED_AT_ONCE = 5_000
"""A page of uploads seen for the first time hides those behind it for a grace period."""
_CLEARED_SECONDS = 7 * 24 * 3600.0
"""A commit that comes so long after its upload's clean-up is not expected any more."""
_LEFTOVER_TOKENS = 1_000
_LEFTOVER_CALLS = 20

Item = TypeVar("Item")


class Sweeper:
    """One sweeper. `sweep` is one whole pass; `run` repeats it."""

    def __init__(self, deps: RepositoryDeps) -> None:
        self._deps = deps
        self._cleaner = Cleaner(deps)
        self._hinted = 0
        """Ready items that the last passes gave hints of, and that the next one leaves out."""

    async def run(self, stop: asyncio.Event) -> None:
        """A pass at once, because after a `kill -9` the queue of this process is empty; then one
        per interval."""
        while not stop.is_set():
            await self.sweep()
            await wait_at_most(stop, self._deps.options.sweep_interval_seconds)

    async def sweep(self) -> None:
        """One pass. A kind that fails is logged and counted, and the others still have their turn.

        The order lets one pass do the most: what is expired now is cleaned up now.
        """
        kinds: dict[str, Callable[[], Awaitable[int]]] = {
            "requeued": self._requeue,
            "expired": self._expire,
            "cleaned": self._clean_up,
            "purged": self._purge,
            "leftovers": self._drop_leftovers,
        }
        if self._deps.catalogue is not None:
            kinds["intents"] = self._clear_intents
            kinds["deletions"] = self._delete_objects
        for kind, sweep_kind in kinds.items():
            with guarded(self._deps.metrics, "sweeper", kind=kind):
                self._deps.metrics.sweeps.labels(kind).inc(await sweep_kind())

    async def _requeue(self) -> int:
        """Rule 15: the ledger knows what is ready; hints may have been lost with a process."""
        done = 0
        passed = self._hinted
        self._hinted = 0
        try:
            # A full queue makes `put` wait; it has enough hints then.
            async with asyncio.timeout(self._deps.options.call_timeout_seconds):
                for item in await self._deps.ledger.ready_work(_HINTS_PER_PASS, passed):
                    await self._deps.queue.put(item)
                    done += 1
                if done == _HINTS_PER_PASS:
                    # The next pass goes on from here: work that fails again and again stays ready,
                    # and must not keep the hints from what comes behind it.
                    self._hinted = passed + done
        except TimeoutError:
            _log.warning("queue_full", hints=done)
        return done

    async def _expire(self) -> int:
        """Rule 24. UploadExpired waits in the ledger, so the relay is woken."""
        done = 0
        while expired := await self._deps.ledger.expire_due(_EXPIRED_AT_ONCE):
            done += len(expired)
            self._deps.relay_poke.set()
            for snapshot in expired:
                _log.info(
                    "upload_expired",
                    upload_id=snapshot.upload_id,
                    reason=snapshot.failure_reason,
                )
        return done

    async def _clean_up(self) -> int:
        async def clean(snapshot: UploadSnapshot) -> None:
            await self._cleaner.ended_upload(snapshot)

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
        """Staged bytes that nothing names: their sender died before the ledger accepted them."""
        done = 0
        for _ in range(_LEFTOVER_CALLS):
            found = await self._deps.chunks.leftovers(
                self._deps.options.leftover_age_seconds, _LEFTOVER_TOKENS
            )
            for upload_id, tokens in found:
                done += await self._drop_unnamed(upload_id, tokens)
            # The store goes round: less than asked for is the end of a round.
            if sum(len(tokens) for _, tokens in found) < _LEFTOVER_TOKENS:
                break
        return done

    async def _drop_unnamed(self, upload_id: str, tokens: Sequence[str]) -> int:
        try:
            known = await self._deps.ledger.known_tokens(upload_id, tokens)
        except NotFound:
            known = frozenset()
        unnamed = [token for token in tokens if token not in known]
        if unnamed:
            await self._deps.chunks.drop(upload_id, unnamed)
        return len(unnamed)

    async def _clear_intents(self) -> int:
        catalogue = self._deps.catalogue
        assert catalogue is not None
        older_than = self._deps.clock() - self._deps.options.intent_age_seconds
        forgotten = await catalogue.now() - _CLEARED_SECONDS
        while await catalogue.forget_cleared_intents(forgotten, PAGE) == PAGE:
            continue

        async def fetch(limit: int, offset: int) -> Sequence[ObjectIntent]:
            return await catalogue.stale_intents(older_than, limit, offset)

        return await walk(
            fetch,
            partial(self._attempt, "intents", self._cleaner.stale_intent),
            lambda intent: (intent.upload_id, intent.object),
        )

    async def _delete_objects(self) -> int:
        catalogue = self._deps.catalogue
        assert catalogue is not None
        # Not by the clock of this process, which may have been stepped.
        now = await catalogue.now()

        async def fetch(limit: int, offset: int) -> Sequence[ObjectDeletion]:
            return await catalogue.deletions_due(now, limit, offset)

        return await walk(
            fetch,
            partial(self._attempt, "deletions", self._cleaner.object_deletion),
            lambda deletion: deletion.deletion_id,
        )

    async def _attempt(
        self, kind: str, clean: Callable[[Item], Awaitable[bool | None]], item: Item
    ) -> bool:
        """One item; what fails stays due and must not keep the others waiting."""
        try:
            async with asyncio.timeout(self._deps.options.call_timeout_seconds):
                return await clean(item) is not False
        except (SluiceError, TimeoutError) as error:
            _log.warning("leftover_stays", kind=kind, item=repr(item), error=str(error))
            return False
