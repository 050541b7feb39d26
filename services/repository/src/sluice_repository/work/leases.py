"""Named catalogue leases for jobs that one process at a time should run (rule 22)."""

from __future__ import annotations

import asyncio

import structlog

from sluice_core.errors import SluiceError
from sluice_core.ports.catalogue import Catalogue

_log = structlog.get_logger(__name__)
_RELEASE_SECONDS = 2.0


class Lease:
    """One holder's view of a named lease.

    Without a catalogue there is one process, and the lease is always held. The lease is measured
    on the monotonic clock from before the database call, so this side never assumes the lease for
    longer than the database grants it.
    """

    def __init__(
        self, catalogue: Catalogue | None, name: str, holder: str, lease_seconds: float
    ) -> None:
        self._catalogue = catalogue
        self._name = name
        self._holder = holder
        self._lease_seconds = lease_seconds
        self._ends = 0.0

    async def hold(self) -> bool:
        """Acquire the lease, or extend it once a third of it is used; return whether it is held."""
        if self._catalogue is None:
            return True
        if self.remaining_seconds() > self._lease_seconds * 2 / 3:
            return True
        requested_at = asyncio.get_running_loop().time()
        if await self._catalogue.hold_lease(self._name, self._holder, self._lease_seconds):
            self._ends = requested_at + self._lease_seconds
            return True
        self._ends = 0.0
        return False

    def remaining_seconds(self) -> float:
        """Return for how many seconds the lease is certainly still held; never negative."""
        if self._catalogue is None:
            return self._lease_seconds
        return max(0.0, self._ends - asyncio.get_running_loop().time())

    async def release(self) -> None:
        """Release the lease for the next holder. Best effort: otherwise the lease runs out."""
        if self._catalogue is None or self._ends == 0.0:
            return
        self._ends = 0.0
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._catalogue.release_lease(self._name, self._holder)
        except (SluiceError, TimeoutError) as error:
            _log.warning("lease.release_failed", lease=self._name, error=str(error))
