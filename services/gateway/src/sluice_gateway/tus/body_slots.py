"""Limit of the bodies that are received at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sluice_gateway.http.refusals import too_many_bodies
from sluice_gateway.http.shares import FairShares


class BodySlots:
    """Slots of one process. Each body has bounded memory, so that this bounds that of all.

    Slow bodies of some tenants leave slots for others (`FairShares`).

    Args:
        total: bodies at a time.
    """

    def __init__(self, total: int) -> None:
        self._shares = FairShares(total)

    @contextmanager
    def hold(self, tenant: str) -> Iterator[None]:
        """Hold a slot inside the block. Raise `Unavailable` UNFINISHED_MESSAGES without one."""
        if not self._shares.take(tenant, 1):
            raise too_many_bodies()
        try:
            yield
        finally:
            self._shares.release(tenant, 1)
