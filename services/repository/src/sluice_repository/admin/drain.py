"""`admin drain`: wait until no work of repositories is left."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Final

from sluice_core.concurrency.waiting import wait_at_most
from sluice_repository.admin.backends import AdminBackends
from sluice_repository.admin.report import Report

POLL_SECONDS: Final = 1.0
EMPTY_LOOKS: Final = 2
"""In a row. A cluster of Redis counts an upload just after it has changed it, and so one look may
miss an upload on its way from one count to another."""


@dataclass(frozen=True, slots=True)
class Left:
    """Work that is left. Withheld events are among those of the outbox and of uploads."""

    completing: int
    uploads_with_ready_parts: int
    uploads_with_events: int
    outbox_events: int
    withheld_outbox_events: int

    @property
    def is_empty(self) -> bool:
        return not any(asdict(self).values())


async def drain(
    backends: AdminBackends, report: Report, stop: asyncio.Event, timeout_seconds: float
) -> bool:
    """Write what is left as it falls; return whether nothing is.

    The second look at nothing may end after the time.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout_seconds
    shown: Left | None = None
    empty_looks = 0
    while True:
        left = await _left(backends)
        empty_looks = empty_looks + 1 if left.is_empty else 0
        if left != shown:
            report.result("left", asdict(left))
            shown = left
        remaining = until - loop.time()
        if empty_looks == EMPTY_LOOKS or stop.is_set() or (remaining <= 0 and not left.is_empty):
            break
        await wait_at_most(stop, POLL_SECONDS if left.is_empty else min(POLL_SECONDS, remaining))
    is_drained = empty_looks == EMPTY_LOOKS
    open_uploads = (await backends.ledger.backlog()).open_uploads
    report.result(
        "drained" if is_drained else "not_drained",
        {"open_uploads": open_uploads},
        _conclusion(left, open_uploads, is_drained=is_drained),
    )
    return is_drained


async def _left(backends: AdminBackends) -> Left:
    # The ledger first: what it hands over to the outbox meanwhile is then counted twice, not never.
    work = await backends.ledger.work_left()
    rows = withheld = 0
    if backends.catalogue is not None:
        counts = await backends.catalogue.count_outbox()
        rows, withheld = counts.rows, counts.withheld
    return Left(work.completing, work.with_ready_parts, work.with_events, rows, withheld)


def _conclusion(left: Left, open_uploads: int, *, is_drained: bool) -> str:
    if is_drained:
        return (
            f"drained: nothing is under way; {open_uploads} open uploads wait for their clients, "
            "which continue them afterwards"
        )
    if left.is_empty:
        return "not drained: interrupted before the second look at nothing"
    if left.withheld_outbox_events:
        return "not drained: the broker refuses events; see the runbook events-withheld"
    return (
        "not drained: do repositories with the roles parts, completer and relay run? "
        "`admin upload` shows what one upload waits for"
    )
