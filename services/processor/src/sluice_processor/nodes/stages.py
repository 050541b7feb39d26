"""Stages of processing a node, each with a span and a histogram."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from sluice_common.telemetry.tracing import span
from sluice_processor.metrics import ProcessorMetrics


class Stage(StrEnum):
    """Stages, as named in metrics and spans."""

    READ = "read"
    SCAN = "scan"
    DECODE = "decode"
    THUMBNAIL = "thumbnail"
    WRITE = "write"


@contextmanager
def staged(metrics: ProcessorMetrics, stage: Stage) -> Iterator[None]:
    """Time a stage in this process; a child reports its stages in its answer."""
    started = time.perf_counter()
    with span(f"processor {stage.value}"):
        yield
    metrics.seconds.labels(stage.value).observe(time.perf_counter() - started)
