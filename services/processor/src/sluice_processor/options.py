"""The options of a processor: limits and times."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sluice_core.uploads.model import MIB
from sluice_processor.images.model import ImageOptions


@dataclass(frozen=True, slots=True)
class ProcessorOptions:
    """Limits and timing of the handler and its sources."""

    images: ImageOptions = field(default_factory=ImageOptions)
    concurrency: int = 8
    attempts: int = 5
    handling_seconds: float = 25.0
    """Time of all attempts at one work item."""
    retry_base_seconds: float = 0.2
    retry_cap_seconds: float = 5.0
    retries: int = 3
    """Postponed retries of a node that ran out of time."""
    retry_seconds: float = 300.0
    """Delay before each postponed retry."""
    drain_seconds: float = 8.0
    whole_bytes: int = 16 * MIB
    """Objects that are no pictures are read whole and checksummed up to this size, if the store has
    no checksum of them; of all others only the first bytes are read."""
    spool_dir: Path | None = None
    bucket: str = "sluice"
    """Bucket of drives that name none."""
    scan_command: tuple[str, ...] = ()
    """Command that scans objects for viruses; empty: none."""
    scan_address: str = ""
    """Where clamd listens: `HOST:PORT`, or `unix:` and a path; empty: it is not asked."""
    scan_seconds: float = 20.0
    """Time of the scan of one object."""
    events_follow: bool = True
    """Whether an event follows for every new node. Then a notification that arrives before its
    node is skipped, and one that adopts an object is done with that."""
