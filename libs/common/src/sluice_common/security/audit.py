"""Refusals for the audit log: merged, bounded and written in batches."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, Protocol

import structlog

from sluice_core.access.audit import AuditEntry
from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import SluiceError

FLUSH_SECONDS: Final = 10.0
MAX_DETAILED: Final = 8
"""Entries that one caller, or one reason of refused tokens, gets in one batch; the rest is one
more entry, without object and peer."""
MAX_ENTRIES: Final = 1_000
"""Entries of one batch; refusals beyond are dropped and counted."""
MAX_TENANT_ENTRIES: Final = 200
"""Those of one tenant, so that it cannot use up the batch of all."""
MAX_CALLER_ENTRIES: Final = 100
"""Those of one caller, so that it cannot use up the entries of its tenant."""
_LAST_WRITE_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)

Write = Callable[[Sequence[AuditEntry]], Awaitable[None]]
_Group = tuple[str, str, str, str]


class RefusalSink(Protocol):
    """Receives the refusals of a server."""

    def add(self, refused: AuditEntry) -> None:
        """Take a refusal; return at once, whatever happens to it."""
        ...


class DropCounter(Protocol):
    """A counter of refusals that were not written."""

    def inc(self, amount: float = 1) -> None: ...


class RefusalBatch:
    """Refusals until the next write. Equal ones become one entry with their number.

    A flood costs a bounded number of entries: one caller's refusals for one reason take at most
    `MAX_DETAILED` entries with object and peer and one without. Refused tokens have no caller: all
    of one reason count as one. Nobody can crowd out the refusals of others: a caller and a tenant
    have bounds of their own within that of the batch.
    """

    def __init__(self, dropped: DropCounter) -> None:
        self._dropped = dropped.inc
        self._entries: dict[tuple[_Group, str, str], AuditEntry] = {}
        self._detailed: Counter[_Group] = Counter()
        self._of_tenant: Counter[str] = Counter()
        self._of_caller: Counter[tuple[str, str]] = Counter()

    def add(self, refused: AuditEntry) -> None:
        group = (refused.tenant, refused.subject, refused.action, refused.outcome)
        key = (group, refused.object, refused.peer)
        if key not in self._entries and self._detailed[group] >= MAX_DETAILED:
            refused = replace(refused, object="", peer="", request_id="")
            key = (group, "", "")
        known = self._entries.get(key)
        if known is not None:
            self._entries[key] = replace(known, count=known.count + refused.count)
        elif self._is_full(refused.tenant, refused.subject):
            self._dropped(refused.count)
        else:
            self._entries[key] = refused
            self._detailed[group] += 1
            self._of_tenant[refused.tenant] += 1
            self._of_caller[refused.tenant, refused.subject] += 1

    def _is_full(self, tenant: str, subject: str) -> bool:
        return (
            len(self._entries) >= MAX_ENTRIES
            or self._of_tenant[tenant] >= MAX_TENANT_ENTRIES
            or self._of_caller[tenant, subject] >= MAX_CALLER_ENTRIES
        )

    def put_back(self, entries: Iterable[AuditEntry]) -> None:
        """Take entries that were not written."""
        for entry in entries:
            self.add(entry)

    def take(self) -> list[AuditEntry]:
        """Return all entries, oldest first, and forget them."""
        taken = list(self._entries.values())
        for bounded in (self._entries, self._detailed, self._of_tenant, self._of_caller):
            bounded.clear()
        return taken


@asynccontextmanager
async def writing_refusals(
    write: Write, dropped: DropCounter, *, flush_seconds: float = FLUSH_SECONDS
) -> AsyncIterator[RefusalSink]:
    """Write refusals every `flush_seconds` while the block runs, and the last ones at its end.

    What cannot be written waits for the next time, within the bound of a batch. A kill loses the
    refusals since the last write.

    Args:
        write: writes entries, all or none; raises `SluiceError`.
        dropped: counts refusals that are not written.
    """
    batch = RefusalBatch(dropped)
    stop = asyncio.Event()

    async def flush() -> None:
        entries = batch.take()
        if not entries:
            return
        try:
            await write(entries)
        except SluiceError as error:
            _log.warning("audit.write_failed", entries=len(entries), reason=error.reason)
            batch.put_back(entries)
        except asyncio.CancelledError:
            batch.put_back(entries)
            raise
        except Exception:  # noqa: BLE001 - a defect must not end the writer
            _log.exception("audit.write_failed", entries=len(entries))
            dropped.inc(sum(entry.count for entry in entries))

    async def run() -> None:
        while not await wait_at_most(stop, flush_seconds):
            await flush()

    writer = asyncio.create_task(run(), name="audit")
    try:
        yield batch
    finally:
        stop.set()
        try:
            async with asyncio.timeout(_LAST_WRITE_SECONDS):
                await writer
                await flush()
        except TimeoutError:
            _log.warning("audit.write_timed_out")
        finally:
            if lost := sum(entry.count for entry in batch.take()):
                dropped.inc(lost)
                _log.error("audit.refusals_lost", refusals=lost)


async def log_refusals(entries: Sequence[AuditEntry]) -> None:
    """Write refusals to the log, for a process without a catalogue."""
    for entry in entries:
        _log.warning(
            "call.refused",
            action=entry.action,
            reason=entry.outcome,
            tenant=entry.tenant,
            subject=entry.subject,
            peer=entry.peer,
            refused_request_id=entry.request_id,
            count=entry.count,
        )
