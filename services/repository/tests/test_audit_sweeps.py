"""Tests of the sweeper's retention of the audit log."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sluice_core.access.audit import AuditEntry
from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import Unavailable
from sluice_core.ports.audit import AuditFilter
from sluice_repository.roles import audit_retention, sweeper
from sluice_repository.roles.sweeper import Sweeper
from support.roles import HOUR, TENANT, World

SECONDS = 30.0
"""Upper bound of every wait, sufficient on a loaded machine."""
LOOPS = 4
"""Loops of a sweeper; each waits for the interval."""


async def test_old_audit_entries_are_deleted_in_pages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass deletes a bounded number, the next one continues; younger entries stay."""
    monkeypatch.setattr(audit_retention, "FULL_PASS", 6)
    monkeypatch.setattr(audit_retention, "PAGE", 3)
    catalogue = world.catalogue
    now, day = await catalogue.now(), 24 * HOUR
    ages = [*(400 * day + number for number in range(7)), 364 * day, 0]
    await catalogue.append_audit(
        [AuditEntry(TENANT, "ann", "DeleteNode", occurred_at=now - age) for age in ages]
    )

    async def count() -> int:
        return len((await catalogue.list_audit(TENANT, 100, None, AuditFilter())).entries)

    for left in (3, 2, 2):
        await world.sweeper.sweep()
        assert await count() == left
    swept = world.deps.metrics.registry.get_sample_value("sluice_sweeps_total", {"kind": "audit"})
    assert swept == 7


async def test_a_retention_of_zero_keeps_every_entry(world: World) -> None:
    deps = replace(world.deps, options=replace(world.deps.options, audit_retention_seconds=0))
    await world.catalogue.append_audit([AuditEntry(TENANT, "ann", "DeleteNode", occurred_at=1.0)])
    await Sweeper(deps).sweep()
    page = await world.catalogue.list_audit(TENANT, 100, None, AuditFilter())
    assert len(page.entries) == 1


def with_interval(world: World, seconds: float) -> Sweeper:
    options = replace(world.deps.options, sweep_interval_seconds=seconds)
    return Sweeper(replace(world.deps, options=options))


async def test_old_audit_entries_are_deleted_without_a_pause(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are due: several passes follow each other within one interval."""
    monkeypatch.setattr(audit_retention, "FULL_PASS", 6)
    monkeypatch.setattr(audit_retention, "PAGE", 3)
    catalogue, purge = world.catalogue, world.catalogue.purge_audit
    old = [AuditEntry(TENANT, "ann", "DeleteNode", occurred_at=1.0 + n) for n in range(20)]
    await catalogue.append_audit([*old, AuditEntry(TENANT, "ann", "DeleteNode")])
    stop, is_done = asyncio.Event(), asyncio.Event()

    async def counted(older_than: float, limit: int) -> int:
        purged = await purge(older_than, limit)
        if purged < limit:
            is_done.set()
        return purged

    monkeypatch.setattr(catalogue, "purge_audit", counted)
    async with asyncio.timeout(SECONDS):
        running = asyncio.create_task(with_interval(world, 1e6).run(stop))
        await is_done.wait()
        stop.set()
        await running
    assert len((await catalogue.list_audit(TENANT, 100, None, AuditFilter())).entries) == 1
    assert world.counted("sluice_sweeps_total", kind="audit") == 20


async def test_failing_purge_is_retried_after_an_interval(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not at once: a database that is away is not asked in a tight loop."""
    calls, waits, stop, all_wait = 0, 0, asyncio.Event(), asyncio.Event()

    async def broken(*_: object) -> int:
        nonlocal calls
        calls += 1
        raise Unavailable("CATALOGUE_UNAVAILABLE", "The database does not answer; try again.")

    async def wait(event: asyncio.Event, seconds: float) -> bool:
        nonlocal waits
        waits += 1
        if waits == LOOPS:
            all_wait.set()
        return await wait_at_most(event, seconds)

    monkeypatch.setattr(world.catalogue, "purge_audit", broken)
    monkeypatch.setattr(sweeper, "wait_at_most", wait)
    async with asyncio.timeout(SECONDS):
        running = asyncio.create_task(with_interval(world, 1e6).run(stop))
        await all_wait.wait()
        stop.set()
        await running
    assert calls == 1


async def test_slow_purge_delays_neither_recovery_nor_accounts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, began = asyncio.Event(), asyncio.Event()
    later = {"ready_work": 0, "reservations_unchecked": 0}
    is_enough = asyncio.Event()

    async def wait(*_: object) -> int:
        began.set()
        await stop.wait()
        return 0

    def count(owner: object, name: str) -> None:
        call = getattr(owner, name)

        async def counted(*arguments: object) -> object:
            later[name] += began.is_set()
            if min(later.values()) >= 3:
                is_enough.set()
            return await call(*arguments)

        monkeypatch.setattr(owner, name, counted)

    monkeypatch.setattr(world.catalogue, "purge_audit", wait)
    count(world.deps.ledger, "ready_work")
    count(world.catalogue, "reservations_unchecked")
    async with asyncio.timeout(SECONDS):
        running = asyncio.create_task(with_interval(world, 0.01).run(stop))
        await is_enough.wait()
        stop.set()
        await running
