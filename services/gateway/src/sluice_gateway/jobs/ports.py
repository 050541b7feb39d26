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


class NoPressure:
    """`Pressure` of a deployment that watches nothing."""

    async def retry_after_seconds(self) -> float | None:
        return None


class Reprocessing(Protocol):
    """Requests for another processing of an object that is there."""

    async def __call__(self, photo: Photo) -> None:
        """Hand the request over; at least once, as a notification of the store.

        Raise `Unavailable`: the photo is PROCESSING already, and the client repeats the command.
        """
        ...


class Homes(Protocol):
    """Drives of users."""

    async def prepare_home(self, user_id: str) -> None:
        """Create the drive of this tenant's photos unless it exists."""
        ...
