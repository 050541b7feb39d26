"""Who looks at an upload together, and what each of them may rely on."""

from __future__ import annotations

import asyncio
from typing import Any

from sluice_backends.redis.ledger.coalesced_reads import GATHER_SECONDS, CoalescedReads
from sluice_core.errors import Unavailable
from support.virtual_time import in_virtual_time


class Ledger:
    """Answers with the number of changes so far; `answer` may be held up."""

    def __init__(self) -> None:
        self.changes = 0
        self.looks = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.error: Exception | None = None

    async def look(self, upload_id: str) -> Any:
        self.looks += 1
        seen = self.changes
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return (upload_id, seen)


@in_virtual_time
async def test_one_look_is_enough_for_all_who_ask_at_once() -> None:
    ledger = Ledger()
    shared: Any = CoalescedReads(ledger.look)
    seen = await asyncio.gather(*(shared.at("a") for _ in range(5)), shared.at("b"))
    assert seen == [("a", 0)] * 5 + [("b", 0)]
    assert ledger.looks == 2


@in_virtual_time
async def test_nobody_is_given_what_was_seen_before_it_asked() -> None:
    ledger = Ledger()
    shared: Any = CoalescedReads(ledger.look)
    ledger.answers.clear()
    early = asyncio.create_task(shared.at("a"))
    await asyncio.sleep(5 * GATHER_SECONDS)
    assert ledger.looks == 1
    ledger.changes += 1
    late = asyncio.create_task(shared.at("a"))
    await asyncio.sleep(5 * GATHER_SECONDS)
    ledger.answers.set()
    assert [await early, await late] == [("a", 0), ("a", 1)]


@in_virtual_time
async def test_when_the_one_who_was_to_look_goes_another_does() -> None:
    ledger = Ledger()
    shared: Any = CoalescedReads(ledger.look)
    for held_up in (False, True):
        if held_up:
            ledger.answers.clear()
        leader, *others = [asyncio.create_task(shared.at("a")) for _ in range(4)]
        await asyncio.sleep(5 * GATHER_SECONDS if held_up else 0)
        leader.cancel()
        await asyncio.wait([leader])
        ledger.answers.set()
        assert await asyncio.gather(*others) == [("a", 0)] * 3
        assert leader.cancelled()


@in_virtual_time
async def test_all_get_the_error() -> None:
    ledger = Ledger()
    ledger.error = Unavailable("REDIS_UNAVAILABLE", "away")
    shared: Any = CoalescedReads(ledger.look)
    seen = await asyncio.gather(*(shared.at("a") for _ in range(3)), return_exceptions=True)
    assert seen == [ledger.error] * 3
    ledger.error = None
    assert await shared.at("a") == ("a", 0)
