"""Unit tests: coalesced reads of an upload."""

from __future__ import annotations

import asyncio
from typing import Any

from sluice_backends.redis.ledger.coalesced_reads import COALESCE_SECONDS, CoalescedReads
from sluice_core.errors import Unavailable
from support.virtual_time import in_virtual_time


class Ledger:
    """Fake ledger: returns the number of changes so far, once `answers` is set."""

    def __init__(self) -> None:
        self.changes = 0
        self.reads = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.error: Exception | None = None

    async def read(self, upload_id: str) -> Any:
        self.reads += 1
        seen = self.changes
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return (upload_id, seen)


@in_virtual_time
async def test_concurrent_calls_share_one_read() -> None:
    ledger = Ledger()
    shared: Any = CoalescedReads(ledger.read)
    seen = await asyncio.gather(*(shared.get("a") for _ in range(5)), shared.get("b"))
    assert seen == [("a", 0)] * 5 + [("b", 0)]
    assert ledger.reads == 2


@in_virtual_time
async def test_caller_gets_no_snapshot_read_before_its_call() -> None:
    ledger = Ledger()
    shared: Any = CoalescedReads(ledger.read)
    ledger.answers.clear()
    early = asyncio.create_task(shared.get("a"))
    await asyncio.sleep(5 * COALESCE_SECONDS)
    assert ledger.reads == 1
    ledger.changes += 1
    late = asyncio.create_task(shared.get("a"))
    await asyncio.sleep(5 * COALESCE_SECONDS)
    ledger.answers.set()
    assert [await early, await late] == [("a", 0), ("a", 1)]


@in_virtual_time
async def test_waiting_caller_takes_over_from_a_cancelled_leader() -> None:
    ledger = Ledger()
    shared: Any = CoalescedReads(ledger.read)
    for is_reading in (False, True):
        if is_reading:
            ledger.answers.clear()
        leader, *others = [asyncio.create_task(shared.get("a")) for _ in range(4)]
        await asyncio.sleep(5 * COALESCE_SECONDS if is_reading else 0)
        leader.cancel()
        await asyncio.wait([leader])
        ledger.answers.set()
        assert await asyncio.gather(*others) == [("a", 0)] * 3
        assert leader.cancelled()


@in_virtual_time
async def test_all_callers_get_the_error() -> None:
    ledger = Ledger()
    ledger.error = Unavailable("REDIS_UNAVAILABLE", "away")
    shared: Any = CoalescedReads(ledger.read)
    seen = await asyncio.gather(*(shared.get("a") for _ in range(3)), return_exceptions=True)
    assert seen == [ledger.error] * 3
    ledger.error = None
    assert await shared.get("a") == ("a", 0)
