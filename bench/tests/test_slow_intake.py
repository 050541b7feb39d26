"""Intake slowed on purpose: its gate fails, so the gates measure what they claim."""

from __future__ import annotations

import pytest

from bench.deployment import deployment
from bench.gates import P1_ACK_ONE, P1_STREAM
from bench.measurement import Load, measure
from bench.scenario import Effort
from bench.scenarios import p1
from bench.slow_intake import SLOW_MS
from bench.units import MIB

CHUNKS = 8
MANY_CHUNKS = 80
"""Enough chunks that a pause of the machine for seconds does not slow all of them."""

SLOW = 200.0
"""Milliseconds: far more than a chunk takes on a busy machine."""


def milliseconds_per_chunk(chunks: int) -> float:
    with deployment(1) as sluice:
        run = measure(sluice, Load(chunk_bytes=MIB, chunks=chunks))
    assert run.figures["chunks"] == chunks
    return float(run.figures["seconds"]) * 1000 / chunks


def test_every_chunk_is_delayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SLOW_MS, raising=False)
    assert milliseconds_per_chunk(MANY_CHUNKS) < SLOW
    monkeypatch.setenv(SLOW_MS, str(SLOW))
    assert milliseconds_per_chunk(CHUNKS) >= SLOW


@pytest.mark.long
def test_gate_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SLOW_MS, str(SLOW))
    outcome = p1.run(Effort.small())
    results = {result.gate: result for result in outcome.results}
    assert results[P1_STREAM].verdict == "FAIL"
    # The delay is before the first byte: latencies after the last one do not include it.
    assert results[P1_ACK_ONE].spread.median < SLOW
    # The reference is not slowed, and a bare gRPC server lies between them.
    (layers,) = (series for series in outcome.series if series.plot == "layers")
    assert layers.x == ["raw TCP", "gRPC echo", "phase 1"]
    assert layers.y[1] > layers.y[2]
