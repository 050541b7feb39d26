"""The memory of an intake under full load, which the stream windows bound."""

from __future__ import annotations

from typing import Final

import pytest

from bench.deployment import deployment
from bench.measurement import Load, measure
from bench.units import MIB
from sluice_common.settings import load_settings

BOUND_MIB: Final = 512
"""The gate of docs/performance.md."""
STREAMS: Final = 64
WHOLE: Final = Load(
    streams=STREAMS, connections=STREAMS, chunks=2 * STREAMS, chunk_bytes=16 * MIB, warm_up=0.0
)
"""1 GiB at once without flow control."""


def _peak_mib(window_bytes: int) -> float:
    with deployment(1, SLUICE_GRPC__STREAM_WINDOW_BYTES=str(window_bytes)) as sluice:
        run = measure(sluice, WHOLE)
    assert not run.figures["errors"]
    return run.usage["intake"].peak_bytes / MIB


@pytest.mark.long
def test_many_fast_streams_stay_below_the_bound() -> None:
    assert _peak_mib(load_settings().grpc.stream_window_bytes) <= BOUND_MIB


@pytest.mark.long
def test_intake_memory_follows_the_stream_window() -> None:
    """A control for the test above: with bandwidth-dependent windows both loads would use the same
    memory. On a busy machine slow clients use less of the larger window."""
    small, large = _peak_mib(1 * MIB), _peak_mib(32 * MIB)
    assert small <= BOUND_MIB
    assert large > 3 / 2 * small
