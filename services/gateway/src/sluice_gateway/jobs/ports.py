"""Narrow ports of the commands."""

from __future__ import annotations

from typing import Protocol

from sluice_core.photos.model import Photo


class Pressure(Protocol):
    """How much work waits behind the gateway: the processor's lag, and for the database."""

    async def retry_after_seconds(self) -> float | None:
        """Return the delay for new jobs; None while they are welcome.

        Never raises: whoever cannot say so answers None. Called for each new job, so it answers
        from memory.
        """
        ...


class Reprocessing(Protocol):
    """What follows the request for another processing, which is in the outbox."""

    async def __call__(self, photo: Photo) -> None:
        """Look whether the node was processed in the meantime: then no event comes any more.

        Raise `Unavailable`: the photo is PROCESSING already, and the client repeats the command.
        """
        ...


class Homes(Protocol):
    """Drives of users."""

    async def prepare_home(self, user_id: str) -> None:
        """Create the drive of this tenant's photos unless it exists."""
        ...
