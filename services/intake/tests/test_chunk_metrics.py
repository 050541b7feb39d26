"""What the intake counts of chunks, and what it measures of their acknowledgements."""

from __future__ import annotations

import time
from typing import Any

from sluice_backends.memory.ledger import MemoryLedger
from sluice_core.errors import Unavailable
from sluice_core.ledger.options import LedgerOptions
from sluice_intake.chunks.ack_times import AckTimes
from sluice_intake.metrics import IntakeMetrics
from support.intake import Intake, refusal, running_intake


class ForgetfulLedger:
    """A real ledger whose first answer to an accept is lost."""

    def __init__(self) -> None:
        self._ledger: Any = MemoryLedger(LedgerOptions())
        self._is_lost = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def accept_chunk(self, *args: Any) -> Any:
        acceptance = await self._ledger.accept_chunk(*args)
        if self._is_lost:
            self._is_lost = False
            raise Unavailable("REDIS_UNAVAILABLE", "The answer was lost.")
        return acceptance


def chunks(intake: Intake) -> dict[str, float]:
    return {
        sample.labels["verdict"]: sample.value
        for family in intake.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "sluice_chunks_total"
    }


def acks(metrics: IntakeMetrics, level: str) -> tuple[float, float]:
    """Return the number of measured acknowledgements of a level, and the sum of their seconds."""
    value = metrics.registry.get_sample_value
    labels = {"level": level}
    count, total = (value(f"sluice_ack_seconds_{name}", labels) for name in ("count", "sum"))
    return count or 0.0, total or 0.0


async def test_chunks_are_counted_by_verdict_or_reason() -> None:
    async with running_intake() as intake:
        upload = await intake.initiate()
        await intake.send(upload.upload_id, 0, b"hello")
        await intake.send(upload.upload_id, 0, b"hello")
        refused = await refusal(intake.send(upload.upload_id, 0, b"other"))
        await intake.send(upload.upload_id, 0, b"another", force=True)
        assert refused.reason == "CHUNK_CONFLICT"
        assert chunks(intake) == {"NEW": 1, "DUPLICATE": 1, "CHUNK_CONFLICT": 1, "REPLACED": 1}
        value = intake.metrics.registry.get_sample_value
        assert value("sluice_received_bytes_total") == len(b"hello") + len(b"another")


async def test_chunk_of_unknown_outcome_is_counted_once() -> None:
    async with running_intake(ledger=ForgetfulLedger()) as intake:
        upload = await intake.initiate()
        await refusal(intake.send(upload.upload_id, 0, b"hello"))
        assert chunks(intake) == {}
        await intake.send(upload.upload_id, 0, b"hello")
        assert chunks(intake) == {"DUPLICATE": 1}


def test_stored_is_measured_once_below_the_watermark() -> None:
    metrics = IntakeMetrics()
    times = AckTimes(metrics)
    for number in range(3):
        times.accepted(number, time.perf_counter() - 100)
    times.stored(2)
    times.stored(2)
    count, seconds = acks(metrics, "stored")
    assert count == 2
    assert 200 <= seconds < 210
    assert acks(metrics, "accepted")[0] == 3


def test_repeat_of_a_stored_chunk_is_not_measured_again() -> None:
    metrics = IntakeMetrics()
    times = AckTimes(metrics)
    times.stored(5)
    times.stored(3)  # its write ended after that of a later one
    times.accepted(4, time.perf_counter())
    times.stored(6)
    assert acks(metrics, "stored")[0] == 0
    assert acks(metrics, "accepted")[0] == 1


def test_measured_chunks_of_a_stream_are_bounded() -> None:
    metrics = IntakeMetrics()
    times = AckTimes(metrics)
    for number in range(2000):
        times.accepted(number, time.perf_counter())
    times.stored(2000)
    assert acks(metrics, "stored")[0] == 1024
    assert acks(metrics, "accepted")[0] == 2000
