"""The ports of the node handler, filled in by the composition root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sluice_core.ports.catalogue import Catalogue
from sluice_core.ports.object_store import ObjectStore
from sluice_processor.images.model import ProcessedImage
from sluice_processor.metrics import ProcessorMetrics
from sluice_processor.options import ProcessorOptions
from sluice_processor.scanning.port import Scanner


class Images(Protocol):
    """Decoder of pictures; see `ImageWorkers.process`."""

    async def process(
        self, source: int | Path, sizes: Sequence[int] | None = None
    ) -> ProcessedImage: ...


@dataclass(frozen=True, slots=True)
class ProcessorDeps:
    """The ports of one processor."""

    catalogue: Catalogue
    objects: ObjectStore
    images: Images
    metrics: ProcessorMetrics
    options: ProcessorOptions = field(default_factory=ProcessorOptions)
    scanner: Scanner | None = None
    """None: objects are not scanned."""
