"""Limit of the bodies that are received at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sluice_gateway.http.refusals import too_many_bodies


class BodySlots:
    """Slots of one process. Each body has bounded memory, so that this bounds that of all.

    Args:
        total: bodies at a time.
        of_tenant: bodies of one tenant, so that slow ones of one leave room for others.
    """

    def __init__(self, total: int, of_tenant: int) -> None:
        self._left = total
        self._of_tenant = of_tenant
        self._held: Counter[str] = Counter()

    @contextmanager
    def hold(self, tenant: str) -> Iterator[None]:
        """Hold a slot inside the block. Raise `Unavailable` UNFINISHED_MESSAGES without one."""
        if self._left == 0 or self._held[tenant] >= self._of_tenant:
            raise too_many_bodies()
        self._left -= 1
        self._held[tenant] += 1
        try:
            yield
        finally:
            self._left += 1
            self._held[tenant] -= 1
            if self._held[tenant] == 0:
                del self._held[tenant]
