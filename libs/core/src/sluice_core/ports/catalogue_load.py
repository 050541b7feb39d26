"""Port of the load on the catalogue, for back-pressure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class OpenPhotos:
    """Photos of open jobs, of all users."""

    arriving: int
    """QUEUED or UPLOADING."""
    processing: int


class CatalogueLoad(Protocol):
    """How much work the catalogue has, and how busy its database is."""

    async def count_open_photos(self) -> OpenPhotos:
        """Count the photos that have not ended, by the counts of their jobs."""
        ...

    def connection_wait_seconds(self) -> float:
        """Return the longest wait of this process for a connection of late; no I/O."""
        ...
