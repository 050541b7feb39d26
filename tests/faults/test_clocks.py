"""Fault 16: the wall clock of one process steps; leases and lifetimes follow Redis and MySQL."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from sluice.upload.v1 import upload_pb2 as pb
from support.calls import CHUNK, chunks_of, put
from support.clock import SteppedClock
from support.deployments import Services
from support.fleet import fleet, running, until
from support.network_faults import Faults
from support.processes import ServiceProcess
from support.proxy import FaultProxy
from support.s3_server import s3_account
from support.wire import Chunk

pytestmark = pytest.mark.row(16)

HOUR = 3600
SMALL = 64 * 1024
HALF_AN_HOUR = {
    # Shorter than the step: by the stepped clock all uploads are expired, all leftovers old.
    "SLUICE_LIFETIMES__IDLE_SECONDS": "1800",
    "SLUICE_LIFETIMES__TOTAL_SECONDS": "1800",
    "SLUICE_LIFETIMES__EXPIRY_GRACE_SECONDS": "0",
    "SLUICE_LIFETIMES__FORGET_AFTER_SECONDS": "1800",
    "SLUICE_SWEEPER__INTERVAL_SECONDS": "0.5",
    "SLUICE_SWEEPER__LEFTOVER_AGE_SECONDS": "600",
    "SLUICE_SWEEPER__INTENT_AGE_SECONDS": "600",
}


@pytest.fixture
def clock(tmp_path: Path) -> SteppedClock:
    return SteppedClock(tmp_path)


async def sweeps_of(process: ServiceProcess, more: int = 2) -> None:
    """Wait for `more` further sweeper passes; the second one started after this call."""
    before = await asyncio.to_thread(_passes, process)

    async def swept() -> bool:
        return await asyncio.to_thread(_passes, process) >= before + more

    await until(swept, 30, "the sweeper has run again")


def _passes(process: ServiceProcess) -> int:
    """Return the number of sweeper passes: each calls the ledger's `idle_holders` once."""
    with urlopen(f"http://{process.metrics_address}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    counts = [
        line.rpartition(" ")[2]
        for line in lines
        if line.startswith("sluice_redis_seconds_count") and "idle_holders" in line
    ]
    return int(sum(float(count) for count in counts))


@pytest.mark.parametrize("step", [HOUR, pytest.param(-HOUR, marks=pytest.mark.slow_fault)])
async def test_worker_with_stepped_clock_sweeps_nothing_early(
    services: Services, clock: SteppedClock, tmp_path: Path, step: int
) -> None:
    """Row 16: the only worker and sweeper is an hour ahead (behind). Uploads in flight, their
    stored parts and objects with valid presigned addresses are kept."""
    chunks = chunks_of(12, seed=1)
    settings = {**HALF_AN_HOUR, **clock.environment}
    async with fleet(services, tmp_path, HALF_AN_HOUR) as here, AsyncExitStack() as stack:
        (steady,) = here.repositories
        await asyncio.to_thread(steady.stop)
        stepped = ServiceProcess("sluice_repository", tmp_path, {**here.settings, **settings})
        await stack.enter_async_context(_on_the_port_of(steady, stepped))

        for number in range(2):  # the second upload supersedes the first
            opened = await here.wire.initiate("superseded", chunk_size=SMALL)
            await put(here.wire, opened.upload_id, Chunk(0, bytes([number]) * SMALL, True))
            done = await here.wire.complete(opened.upload_id, 1)
            assert done.state == pb.UPLOAD_STATE_COMPLETED
        opened = await here.wire.initiate("in flight", chunk_size=CHUNK)
        await here.wire.send_stream(opened.upload_id, chunks[:10])

        async def stored() -> bool:
            return (await here.wire.status(opened.upload_id)).stored_chunks >= 8

        await until(stored, 30, "a part of it is in the store")
        clock.step(step)
        await sweeps_of(stepped)
        status = await here.wire.status(opened.upload_id)
        assert status.state == pb.UPLOAD_STATE_UPLOADING
        assert status.stored_chunks >= 8
        assert services.count_objects() == 2
        # The store refuses requests with a skewed signature time, so kept objects prove little:
        # the sweeper must not have tried to delete any.
        assert "sweep.item_failed" not in stepped.log.read_text()
        await here.wire.send_stream(opened.upload_id, chunks[10:])
        clock.step(0)
        await here.judge()


@pytest.mark.slow_fault
@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_intake_with_stepped_clock_sets_correct_lifetimes(
    services: Services, clock: SteppedClock, tmp_path: Path, step: int
) -> None:
    """Row 16: the lifetime of its uploads follows the clock of Redis."""
    chunks = chunks_of(10, seed=2)
    async with fleet(services, tmp_path, HALF_AN_HOUR) as here, AsyncExitStack() as stack:
        (steady,) = here.intakes
        await asyncio.to_thread(steady.stop)
        settings = {**here.settings, **clock.environment}
        stepped = ServiceProcess("sluice_intake", tmp_path, settings)
        await stack.enter_async_context(_on_the_port_of(steady, stepped))

        before = await here.wire.initiate("before the step", chunk_size=CHUNK)
        await here.wire.send_stream(before.upload_id, chunks[:5])
        clock.step(step)
        after = await here.wire.initiate("after the step", chunk_size=CHUNK)
        for opened in (before, after):
            left = opened.expires_at.ToMilliseconds() / 1000 - time.time()
            assert left == pytest.approx(1800, abs=30)
        await here.wire.send_stream(after.upload_id, chunks[:5])
        await sweeps_of(here.repositories[0])
        for opened in (before, after):
            status = await here.wire.status(opened.upload_id)
            assert status.state == pb.UPLOAD_STATE_UPLOADING
            assert status.expires_at.ToMilliseconds() / 1000 - time.time() > 1700
            await here.wire.send_stream(opened.upload_id, chunks[5:])
        await here.judge()


@pytest.mark.slow_fault
async def test_worker_an_hour_ahead_respects_held_leases(
    services: Services, clock: SteppedClock, tmp_path: Path
) -> None:
    """Row 16: a worker with a correct clock and a slow store holds the part. The stepped worker
    judges the lease by the clock of Redis and does not claim the part."""
    chunks = chunks_of(9, seed=3)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        here = await enter(fleet(services, tmp_path, HALF_AN_HOUR))
        (steady,) = here.repositories
        await asyncio.to_thread(steady.stop)
        host, _, port = urlsplit(s3_account().endpoint_url).netloc.rpartition(":")
        store = await enter(FaultProxy(host, int(port)))
        slow = {**here.settings, "SLUICE_S3__ENDPOINT_URL": f"http://{store.address}"}
        holder = ServiceProcess("sluice_repository", tmp_path, slow)
        await enter(_on_the_port_of(steady, holder))
        # Started with the correct clock: the store refuses skewed signatures, also at the start.
        settings = {**here.settings, **clock.environment}
        ahead = ServiceProcess("sluice_repository", tmp_path, settings, "--roles", "parts,sweeper")
        await enter(running(ahead))
        os.kill(ahead.pid, signal.SIGSTOP)  # so that the other worker claims the part
        store.both(Faults(stalled=True))
        opened = await here.wire.initiate("held", chunk_size=CHUNK)
        await here.wire.send_stream(opened.upload_id, chunks)

        def held() -> Sequence[str]:
            return _holds(services, opened.upload_id)

        try:
            await until(lambda: bool(held()), 20, "the part is claimed")
            claimed = held()
            clock.step(HOUR)
        finally:
            os.kill(ahead.pid, signal.SIGCONT)
        # Longer than a lease, which the holder's heartbeats renew by the clock of Redis.
        deadline = time.monotonic() + 1.5 * float(here.settings["SLUICE_QUEUE__LEASE_SECONDS"])
        while time.monotonic() < deadline:
            assert held() == claimed
            await sweeps_of(ahead)
        clock.step(0)
        store.heal()
        await here.judge()


@asynccontextmanager
async def _on_the_port_of(stopped: ServiceProcess, other: ServiceProcess) -> AsyncIterator[None]:
    """Run another process on the addresses of a stopped one."""
    other.listen_like(stopped)
    async with running(other):
        yield


def _holds(services: Services, upload_id: str) -> Sequence[str]:
    """Return the held parts: number, claim counter and holder."""
    with services.redis.client() as redis:
        holds = redis.hgetall(f"upload:{{{upload_id}}}:holds")
    entries = ((number.decode(), *entry.decode().split(" ")) for number, entry in holds.items())
    return sorted(f"{number} {counter} {holder}" for number, counter, _until, holder in entries)
