"""Event publisher for deployments without event consumers."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_core.ports.event_publisher import EventRecord


class NoEvents:
    """`EventPublisher` that publishes nothing and always succeeds."""

    async def publish(self, events: Sequence[EventRecord]) -> None:
        """No-op."""
