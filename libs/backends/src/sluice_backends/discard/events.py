"""No events: for deployments that nobody listens to."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_core.ports.event_publisher import EventRecord


class NoEvents:
    """An `EventPublisher` that publishes nothing and always succeeds."""

    async def publish(self, events: Sequence[EventRecord]) -> None:
        """Nobody listens, so everybody has been told."""
