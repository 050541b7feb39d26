"""Removal of ended sessions."""

from __future__ import annotations

import asyncio

from sluice_core.errors import Unavailable
from sluice_gateway.auth.housekeeping import purging_families
from support.waiting import until


class Families:
    """Has `expired` families; the first call fails."""

    def __init__(self, expired: int) -> None:
        self.expired = expired
        self.calls = 0

    async def purge_token_families(self, limit: int) -> int:
        self.calls += 1
        if self.calls == 1:
            raise Unavailable("CATALOGUE_UNAVAILABLE", "The catalogue does not answer.")
        deleted = min(limit, self.expired)
        self.expired -= deleted
        return deleted


async def test_ended_sessions_are_removed_in_batches() -> None:
    """A failure is tried again after the interval."""
    families = Families(2500)
    async with asyncio.timeout(30), purging_families(families, 0.01):
        await until(lambda: families.expired == 0)
    assert families.calls >= 4
