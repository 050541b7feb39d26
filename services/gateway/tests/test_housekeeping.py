"""Removal of rows whose time is over."""

from __future__ import annotations

import asyncio

from sluice_core.errors import Unavailable
from sluice_gateway.housekeeping import purging
from support.waiting import until


class Rows:
    """Has `expired` rows; the first call fails."""

    def __init__(self, expired: int) -> None:
        self.expired = expired
        self.calls = 0

    async def purge(self, limit: int) -> int:
        self.calls += 1
        if self.calls == 1:
            raise Unavailable("CATALOGUE_UNAVAILABLE", "The catalogue does not answer.")
        deleted = min(limit, self.expired)
        self.expired -= deleted
        return deleted


async def test_expired_rows_are_removed_in_batches() -> None:
    """A failure is tried again after the interval, and does not keep the next kind from it."""
    sessions, requests = Rows(2500), Rows(1500)
    async with asyncio.timeout(30), purging(sessions.purge, requests.purge, interval_seconds=0.01):
        await until(lambda: sessions.expired == requests.expired == 0)
    assert sessions.calls >= 4
    assert requests.calls >= 3
