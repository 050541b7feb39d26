"""Refusals on their way to the audit log: merged, bounded, written in batches and at the end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from sluice_common.security import audit
from sluice_common.security.audit import (
    MAX_CALLER_ENTRIES,
    MAX_DETAILED,
    MAX_ENTRIES,
    MAX_TENANT_ENTRIES,
    RefusalBatch,
    log_refusals,
    writing_refusals,
)
from sluice_core.access.audit import AUTHENTICATE, AuditEntry
from sluice_core.errors import Unavailable

BAD_TOKEN = AuditEntry("", "", AUTHENTICATE, "", "BAD_TOKEN", "r-1", "10.0.0.1", 1, 100.0)
REFUSED = AuditEntry("acme", "ann", "DeleteNode", "node/1", "NOT_GRANTED", "r-1", "10.0.0.1")


class Dropped:
    """Counts like a counter of Prometheus."""

    def __init__(self) -> None:
        self.count = 0.0

    def inc(self, amount: float = 1) -> None:
        self.count += amount


class Writer:
    """Records batches; fails while `error` is set. `written` is set after each attempt."""

    def __init__(self) -> None:
        self.batches: list[list[AuditEntry]] = []
        self.error: Exception | None = None
        self.attempted = asyncio.Event()

    async def __call__(self, entries: Sequence[AuditEntry]) -> None:
        self.attempted.set()
        if self.error is not None:
            raise self.error
        self.batches.append(list(entries))

    async def next_attempt(self) -> None:
        self.attempted.clear()
        await asyncio.wait_for(self.attempted.wait(), 10)


def total(entries: Sequence[AuditEntry]) -> int:
    return sum(entry.count for entry in entries)


def test_equal_refusals_become_one_entry() -> None:
    """With the time and request id of the first one, and their number."""
    batch = RefusalBatch(Dropped())
    for number in range(1, 1001):
        batch.add(replace(BAD_TOKEN, request_id=f"r-{number}", occurred_at=99.0 + number))
    assert batch.take() == [replace(BAD_TOKEN, count=1000)]
    assert batch.take() == []


def test_different_refusals_stay_separate() -> None:
    batch = RefusalBatch(Dropped())
    others = [
        replace(REFUSED, tenant="rival"),
        replace(REFUSED, subject="bob"),
        replace(REFUSED, action="UpdateNode"),
        replace(REFUSED, outcome="NODE_NOT_FOUND"),
        replace(REFUSED, object="node/2"),
        replace(REFUSED, peer="10.0.0.2"),
    ]
    for entry in (REFUSED, *others):
        batch.add(entry)
    assert batch.take() == [REFUSED, *others]


def test_a_flood_of_bad_tokens_costs_a_few_entries() -> None:
    """However many calls and hosts it comes from, and none is lost from the count."""
    dropped = Dropped()
    batch = RefusalBatch(dropped)
    for first, second in itertools.product(range(256), range(40)):
        batch.add(replace(BAD_TOKEN, peer=f"10.0.{first}.{second}"))
    entries = batch.take()
    assert len(entries) == MAX_DETAILED + 1
    assert (total(entries), dropped.count) == (256 * 40, 0)
    assert (entries[-1].peer, entries[-1].request_id) == ("", "")


def test_one_caller_leaves_room_for_the_others() -> None:
    batch = RefusalBatch(Dropped())
    for number in range(5000):
        batch.add(replace(REFUSED, object=f"node/{number}"))
    batch.add(replace(REFUSED, subject="bob"))
    entries = batch.take()
    assert len(entries) == MAX_DETAILED + 2
    assert total(entries) == 5001
    assert entries[-1].subject == "bob"


def test_a_full_batch_drops_and_counts() -> None:
    dropped = Dropped()
    batch = RefusalBatch(dropped)
    for number in range(MAX_ENTRIES + 5):
        batch.add(replace(REFUSED, tenant=f"t{number}", count=2))
    batch.add(replace(REFUSED, tenant="t1"))  # it has its entry
    entries = batch.take()
    assert (len(entries), dropped.count) == (MAX_ENTRIES, 10)
    assert entries[1].count == 3


def test_one_tenant_leaves_room_for_the_others() -> None:
    """However many subjects it has. Each refusal of its own that is missing is counted."""
    dropped = Dropped()
    batch = RefusalBatch(dropped)
    for number in range(MAX_ENTRIES):
        batch.add(replace(REFUSED, subject=f"s{number}", count=2))
    batch.add(replace(REFUSED, tenant="rival"))
    entries = batch.take()
    assert [entry.tenant for entry in entries] == ["acme"] * MAX_TENANT_ENTRIES + ["rival"]
    assert dropped.count == 2 * (MAX_ENTRIES - MAX_TENANT_ENTRIES)
    batch.add(REFUSED)
    assert batch.take() == [REFUSED], "the next batch has room again"


def test_one_caller_leaves_room_for_its_tenant() -> None:
    """Whatever reasons it is refused for."""
    dropped = Dropped()
    batch = RefusalBatch(dropped)
    for number in range(MAX_ENTRIES):
        batch.add(replace(REFUSED, outcome=f"REASON_{number}"))
    batch.add(replace(REFUSED, subject="bob"))
    entries = batch.take()
    assert [entry.subject for entry in entries] == ["ann"] * MAX_CALLER_ENTRIES + ["bob"]
    assert dropped.count == MAX_ENTRIES - MAX_CALLER_ENTRIES
    batch.add(REFUSED)
    assert batch.take() == [REFUSED], "the next batch has room again"


async def test_refusals_are_written_while_it_runs() -> None:
    writer = Writer()
    async with writing_refusals(writer, Dropped(), flush_seconds=0.01) as refusals:
        refusals.add(BAD_TOKEN)
        await writer.next_attempt()
    assert writer.batches == [[BAD_TOKEN]]


async def test_the_last_refusals_are_written_at_the_end() -> None:
    writer = Writer()
    async with writing_refusals(writer, Dropped(), flush_seconds=1e6) as refusals:
        refusals.add(BAD_TOKEN)
    assert writer.batches == [[BAD_TOKEN]]


async def test_nothing_is_written_without_refusals() -> None:
    writer = Writer()
    async with writing_refusals(writer, Dropped(), flush_seconds=1e6):
        pass
    assert not writer.attempted.is_set()


async def test_refusals_wait_for_a_catalogue_that_is_away() -> None:
    writer, dropped = Writer(), Dropped()
    writer.error = Unavailable("CATALOGUE_UNAVAILABLE", "Away; repeat.")
    async with writing_refusals(writer, dropped, flush_seconds=0.01) as refusals:
        refusals.add(BAD_TOKEN)
        await writer.next_attempt()
        refusals.add(BAD_TOKEN)
        await writer.next_attempt()
        writer.error = None
    assert sum(map(total, writer.batches)) == 2
    assert dropped.count == 0


async def test_refusals_lost_at_the_end_are_counted() -> None:
    writer, dropped = Writer(), Dropped()
    writer.error = Unavailable("CATALOGUE_UNAVAILABLE", "Away; repeat.")
    with capture_logs() as logs:
        async with writing_refusals(writer, dropped, flush_seconds=1e6) as refusals:
            refusals.add(replace(BAD_TOKEN, count=3))
    assert dropped.count == 3
    assert [(line["event"], line["log_level"]) for line in logs][-1] == (
        "audit.refusals_lost",
        "error",
    )


async def test_a_write_that_hangs_ends_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_LAST_WRITE_SECONDS", 0.01)
    dropped = Dropped()

    async def hang(_: Sequence[AuditEntry]) -> None:
        await asyncio.Event().wait()

    async with asyncio.timeout(10):
        async with writing_refusals(hang, dropped, flush_seconds=1e6) as refusals:
            refusals.add(BAD_TOKEN)
    assert dropped.count == 1


async def test_a_defect_of_the_write_does_not_end_the_writer() -> None:
    writer, dropped = Writer(), Dropped()
    writer.error = ZeroDivisionError()
    async with writing_refusals(writer, dropped, flush_seconds=0.01) as refusals:
        refusals.add(BAD_TOKEN)
        await writer.next_attempt()
        writer.error = None
        refusals.add(REFUSED)
        await writer.next_attempt()
    assert (writer.batches, dropped.count) == ([[REFUSED]], 1)


async def test_without_a_catalogue_refusals_are_logged() -> None:
    with capture_logs() as logs:
        await log_refusals([replace(BAD_TOKEN, count=4)])
    (line,) = logs
    assert line["event"] == "call.refused"
    shown = (line["action"], line["reason"], line["peer"], line["count"])
    assert shown == (AUTHENTICATE, "BAD_TOKEN", "10.0.0.1", 4)
