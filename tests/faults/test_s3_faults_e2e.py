"""Faults 11 and 12: S3 errors, hangs, resets, an outage, and a flipped bit."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sluice_backends.s3.breaker import BreakerState
from sluice_backends.s3.options import BreakerOptions
from support.http_faults import INTERNAL_ERROR, SLOW_DOWN, HttpFault, HttpFaults
from support.network_faults import Faults
from support.processes import ServiceProcess
from support.proxy import FaultProxy
from support.separate_services import (
    ALL_WORK,
    MIB,
    PART_BYTES,
    Stage,
    s3_by,
    s3_line,
    separate_services,
)
from support.waiting import metric, until

CONTENT = random.Random(11).randbytes(3 * PART_BYTES + MIB)
COMPLETED_SECONDS = 90.0
OPEN_SECONDS = BreakerOptions().open_seconds
IMPATIENT = {"SLUICE_S3__STALL_TIMEOUT_SECONDS": "2", "SLUICE_S3__COMPLETE_TIMEOUT_SECONDS": "2"}


@dataclass(frozen=True, slots=True)
class Store:
    """A stage whose workers reach S3 through a fault proxy."""

    stage: Stage
    workers: ServiceProcess
    line: FaultProxy
    http: HttpFaults

    async def breaker(self) -> BreakerState:
        address = self.workers.metrics_address
        return BreakerState(int(await metric(address, "sluice_store_breaker_state")))

    async def integrity_failures(self) -> float:
        address = self.workers.metrics_address
        return await metric(address, "sluice_integrity_failures_total", where="object_store")


@asynccontextmanager
async def store_by_a_line(folder: Path) -> AsyncIterator[Store]:
    http = HttpFaults()
    async with (
        s3_line(http) as line,
        separate_services(folder) as stage,
        stage.repository(ALL_WORK, {**s3_by(line), **IMPATIENT}) as workers,
    ):
        yield Store(stage, workers, line, http)


Weather = Callable[[Store], Coroutine[Any, Any, None]]


async def internal_errors(store: Store) -> None:
    """Answer requests with 500, and the completion with a 200 that contains an error."""
    store.http.add(HttpFault(500, INTERNAL_ERROR, times=2))
    store.http.add(HttpFault(200, INTERNAL_ERROR, "POST", "?uploadId="))


async def slow_down(store: Store) -> None:
    store.http.add(HttpFault(503, SLOW_DOWN, times=2))


async def a_hang(store: Store) -> None:
    """Stall the requests in flight until the workers time out."""
    store.line.both(Faults(stalled=True))

    async def timed_out() -> bool:
        address = store.workers.metrics_address
        return await metric(address, "sluice_s3_errors_total") > 0

    await until(timed_out, 20, "a stalled request times out")
    store.line.heal()


async def resets(store: Store) -> None:
    """Reset all connections, three times."""
    store.line.up = Faults(bytes_per_second=2 * MIB)
    for _ in range(3):
        before = store.line.connections_made

        async def connected(before: int = before) -> bool:
            return store.line.connections_made > before

        store.line.reset()
        # If several requests failed at once, the circuit breaker is open first.
        await until(connected, OPEN_SECONDS + 20, "the workers reconnect")
    store.line.heal()


@pytest.mark.row(11)
@pytest.mark.parametrize(
    "weather",
    [
        pytest.param(internal_errors, id="500"),
        pytest.param(slow_down, id="503", marks=pytest.mark.slow_fault),
        pytest.param(a_hang, id="a hang", marks=pytest.mark.slow_fault),
        pytest.param(resets, id="resets", marks=pytest.mark.slow_fault),
    ],
)
async def test_s3_faults_fail_no_upload(tmp_path: Path, weather: Weather) -> None:
    """Row 11: failed requests are retried with backoff until the object is stored."""
    async with store_by_a_line(tmp_path) as store, asyncio.TaskGroup() as group:
        group.create_task(weather(store))
        upload_id = await store.stage.send("file", CONTENT)
        await store.stage.completed(upload_id, len(CONTENT), COMPLETED_SECONDS)
        await store.stage.judge()


@pytest.mark.row(11)
@pytest.mark.parametrize(
    "outage_seconds",
    [
        pytest.param(5, id="for a moment", marks=pytest.mark.slow_fault),
        pytest.param(
            300,
            id="for five minutes",
            marks=[pytest.mark.slow_fault, pytest.mark.timeout(600)],
        ),
    ],
)
async def test_s3_outage_fails_no_upload(tmp_path: Path, outage_seconds: float) -> None:
    """Row 11: the circuit breaker opens during the outage and closes when S3 is back; no upload
    fails."""
    async with store_by_a_line(tmp_path) as store:

        async def opened() -> bool:
            return await store.breaker() is BreakerState.OPEN

        async def closed() -> bool:
            return await store.breaker() is BreakerState.CLOSED

        assert await closed()
        store.line.refuse()
        over = time.monotonic() + outage_seconds
        first = await store.stage.send("first", CONTENT)
        await until(opened, 60, "the circuit breaker opens")
        second = await store.stage.send("second", CONTENT)
        while time.monotonic() < over:
            assert (await store.breaker()) is not BreakerState.CLOSED
            await asyncio.sleep(1)
        store.line.heal()
        await until(closed, OPEN_SECONDS + 10, "the circuit breaker closes")
        for upload_id in (first, second):
            await store.stage.completed(upload_id, len(CONTENT), COMPLETED_SECONDS)
        await store.stage.judge()


@pytest.mark.row(12)
async def test_bit_flip_on_the_way_to_s3_is_resent(tmp_path: Path) -> None:
    """Row 12: S3 refuses the bytes, they are resent, and the object is what the client sent."""
    async with store_by_a_line(tmp_path) as store:
        # At this offset of any connection there is only the body of a part.
        store.line.up = Faults(flip_at=PART_BYTES // 2 + 12_345)
        upload_id = await store.stage.send("file", CONTENT)
        await store.stage.completed(upload_id, len(CONTENT), COMPLETED_SECONDS)
        assert await store.integrity_failures() == 1, store.workers.log_tail()
        await store.stage.judge()
