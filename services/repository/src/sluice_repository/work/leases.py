"""A named lease in the catalogue, for the jobs that one process at a time should do (rule 22)."""

from __future__ import annotations

import asyncio

import structlog

from sluice_core.errors import SluiceError
from sluice_core.ports.catalogue import Catalogue

_log = structlog.get_logger(__name__)
_RELEASE_SECONDS = 2.0


class Lease:
    """One holder's view of a named lease.

    Without a catalogue there is one process, and the lease is always held. Time is taken from the
    monotonic clock before the database is asked, so this side never believes in the lease longer
    than the database does.
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
        """Take the lease, or extend it once a third of it is used up; whether it is held."""
        if self._catalogue is None:
            return True
        if self.remaining_seconds() > self._lease_seconds * 2 / 3:
            return True
        asked = asyncio.get_running_loop().time()
        if await self._catalogue.hold_lease(self._name, self._holder, self._lease_seconds):
            self._ends = asked + self._lease_seconds
            return True
        self._ends = 0.0
        return False

    def remaining_seconds(self) -> float:
        """How long the lease is certainly still ours, in seconds; never below 0."""
        if self._catalogue is None:
            return self._lease_seconds
        return max(0.0, self._ends - asyncio.get_running_loop().time())

    async def release(self) -> None:
        """Let the next holder in at once; failing to is no error, for the lease ends by itself."""
        if self._catalogue is None or self._ends == 0.0:
            return
        self._ends = 0.0
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._catalogue.release_lease(self._name, self._holder)
        except (SluiceError, TimeoutError) as error:
            _log.warning("lease_not_released", lease=self._name, error=str(error))
