"""The stages of a node's way through the processor: a span and a histogram for each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from sluice_common.telemetry.metrics import Metrics
from sluice_common.telemetry.tracing import span


class Stage(StrEnum):
    READ = "read"
    DECODE = "decode"
    THUMBNAIL = "thumbnail"
    WRITE = "write"


@contextmanager
def staged(metrics: Metrics, stage: Stage) -> Iterator[None]:
    """Time a stage that is done here; those of a child are told by its answer."""
    begun = time.perf_counter()
    with span(f"processor {stage.value}"):
        yield
    metrics.processor_seconds.labels(stage.value).observe(time.perf_counter() - begun)
