"""Stages of processing a node, each with a span and a histogram."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from sluice_common.telemetry.tracing import past_span, span
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
    """Time a stage in this process; `record_child_stages` records those of a child."""
    started = time.perf_counter()
    with span(f"processor {stage.value}"):
        yield
    metrics.seconds.labels(stage.value).observe(time.perf_counter() - started)


def record_child_stages(
    metrics: ProcessorMetrics, decode_seconds: float, thumbnail_seconds: float
) -> None:
    """Record the stages that a child has just reported: it decodes, then makes thumbnails."""
    ended = time.time()
    decoded = ended - thumbnail_seconds
    for stage, seconds, at in (
        (Stage.DECODE, decode_seconds, decoded),
        (Stage.THUMBNAIL, thumbnail_seconds, ended),
    ):
        metrics.seconds.labels(stage.value).observe(seconds)
        past_span(f"processor {stage.value}", at - seconds, at)
