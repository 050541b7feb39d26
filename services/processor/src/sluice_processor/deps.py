"""What the handler works with, and how it is tuned. The composition root fills both in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sluice_common.telemetry.metrics import Metrics
from sluice_core.ports.catalogue import Catalogue
from sluice_core.ports.object_store import ObjectStore
from sluice_core.uploads.model import MIB
from sluice_processor.images.model import ImageOptions, ProcessedImage


class Images(Protocol):
    """Turns a picture into thumbnails and facts; see `ImageWorkers.process`."""

    async def process(
        self, source: int | Path, sizes: Sequence[int] | None = None
    ) -> ProcessedImage: ...


@dataclass(frozen=True, slots=True)
class ProcessorOptions:
    """Sizes and times of the handler and of its sources."""

    images: ImageOptions = field(default_factory=ImageOptions)
    concurrency: int = 8
    attempts: int = 5
    handling_seconds: float = 25.0
    """All tries at one piece of work."""
    retry_base_seconds: float = 0.2
    retry_cap_seconds: float = 5.0
    retries: int = 3
    """Later tries at a node that ran out of time."""
    retry_seconds: float = 300.0
    """Before each later try."""
    drain_seconds: float = 8.0
    whole_bytes: int = 16 * MIB
    """What is no picture is read whole, and checked, up to this size, where the store itself tells
    no checksum; of everything else the first bytes are looked at."""
    spool_dir: Path | None = None
    bucket: str = "sluice"
    """Of drives that name none."""
    events_follow: bool = True
    """Whether the making of every node comes as an event, too: then a notification that is ahead
    of it can be passed over, and one that has led to it is done with that."""


@dataclass(frozen=True, slots=True)
class ProcessorDeps:
    """The ports of one processor."""

    catalogue: Catalogue
    objects: ObjectStore
    images: Images
    metrics: Metrics
    options: ProcessorOptions = field(default_factory=ProcessorOptions)
