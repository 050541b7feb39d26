"""Tests of `while_held`: heartbeats, lost claims and cancellation."""

from __future__ import annotations

import asyncio

import pytest

from sluice_core.errors import Aborted, Unavailable
from sluice_repository.work.claims import is_fenced, while_held
from support.virtual_time import in_virtual_time

FENCED = Aborted("FENCED", "Another worker holds the claim.")
AWAY = Unavailable("LEDGER_UNAVAILABLE", "Away.")


class Beats:
    """A heartbeat with these outcomes in turn; afterwards it succeeds."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self._outcomes = list(outcomes)
        self.count = 0

    async def __call__(self) -> None:
        self.count += 1
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if outcome is not None:
            raise outcome


class Work:
    """Work that takes `seconds` and records how it ended."""

    def __init__(self, seconds: float, error: Exception | None = None) -> None:
        self._seconds = seconds
        self._error = error
        self.ended = "not begun"

    async def __call__(self) -> str:
        self.ended = "cancelled"
        await asyncio.sleep(self._seconds)
        self.ended = "done"
        if self._error is not None:
            raise self._error
        return "result"


async def run(beats: Beats, work: Work, lease: float = 0.3, heartbeat: float = 0.05) -> str:
    return await while_held(beats, work, lease_seconds=lease, heartbeat_seconds=heartbeat)


@pytest.mark.rule(15)
@in_virtual_time
async def test_heartbeats_keep_the_claim_of_long_work() -> None:
    beats, work = Beats(), Work(0.5)
    assert await run(beats, work) == "result"
    assert beats.count >= 5


@in_virtual_time
async def test_short_work_needs_no_heartbeat() -> None:
    beats, work = Beats(), Work(0.0)
    assert await run(beats, work) == "result"
    assert beats.count == 0


@pytest.mark.rule(15)
@in_virtual_time
async def test_lost_claim_cancels_the_work() -> None:
    work = Work(5)
    with pytest.raises(Aborted) as lost:
        await run(Beats(None, FENCED), work)
    assert is_fenced(lost.value)
    assert work.ended == "cancelled"


@in_virtual_time
async def test_ledger_outage_shorter_than_lease_is_survived() -> None:
    beats, work = Beats(None, AWAY, AWAY, TimeoutError()), Work(0.4)
    assert await run(beats, work) == "result"


@in_virtual_time
async def test_ledger_outage_of_whole_lease_cancels_the_work() -> None:
    work = Work(5)
    with pytest.raises(Aborted, match="FENCED"):
        await run(Beats(*[AWAY] * 1_000), work)
    assert work.ended == "cancelled"


@in_virtual_time
async def test_hanging_heartbeat_cancels_the_work_at_lease_end() -> None:
    work = Work(5)
    began = asyncio.get_running_loop().time()

    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Aborted, match="FENCED"):
        await while_held(hang, work, lease_seconds=0.3, heartbeat_seconds=0.05)
    assert asyncio.get_running_loop().time() - began < 2
    assert work.ended == "cancelled"


@in_virtual_time
async def test_error_of_the_work_passes_through() -> None:
    error = RuntimeError("of the work")
    with pytest.raises(RuntimeError) as raised:
        await run(Beats(), Work(0.1, error))
    assert raised.value is error


@in_virtual_time
async def test_outside_cancellation_cancels_the_work() -> None:
    work = Work(5)
    task = asyncio.ensure_future(run(Beats(), work))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended == "cancelled"
