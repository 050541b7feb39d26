"""Fault 16: the wall clock of one process steps; leases and lifetimes follow Redis and MySQL."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
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
from support.redis_server import RedisServer
from support.s3_server import s3_account
from support.wire import Chunk

pytestmark = pytest.mark.row(16)

HOUR = 3600
SMALL = 64 * 1024
HALF_AN_HOUR = {
    # Less than the step: by the stepped clock every upload has expired, every leftover is old.
    "SLUICE_LIFETIMES__IDLE_SECONDS": "1800",
    "SLUICE_LIFETIMES__TOTAL_SECONDS": "1800",
    "SLUICE_LIFETIMES__EXPIRY_GRACE_SECONDS": "0",
    "SLUICE_LIFETIMES__FORGET_AFTER_SECONDS": "1800",
    "SLUICE_SWEEPER__INTERVAL_SECONDS": "0.5",
    "SLUICE_SWEEPER__LEFTOVER_AGE_SECONDS": "600",
    "SLUICE_SWEEPER__INTENT_AGE_SECONDS": "600",
}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with RedisServer() as redis:
        yield Services(tmp_path, redis)


@pytest.fixture
def clock(tmp_path: Path) -> SteppedClock:
    return SteppedClock(tmp_path)


async def sweeps_of(process: ServiceProcess, more: int = 2) -> None:
    """Wait for so many further passes: the second one began after this was called."""
    before = await asyncio.to_thread(_passes, process)

    async def swept() -> bool:
        return await asyncio.to_thread(_passes, process) >= before + more

    await until(swept, 30, "the sweeper sweeps on")


def _passes(process: ServiceProcess) -> int:
    """Of its sweeper: every pass asks the ledger once for what is idle under pressure."""
    with urlopen(f"http://{process.metrics_address}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    counts = [
        line.rpartition(" ")[2]
        for line in lines
        if line.startswith("sluice_redis_seconds_count") and "idle_holders" in line
    ]
    return int(sum(float(count) for count in counts))


@pytest.mark.parametrize("step", [HOUR, pytest.param(-HOUR, marks=pytest.mark.slow_fault)])
async def test_a_worker_whose_clock_steps_sweeps_nothing_early(
    services: Services, clock: SteppedClock, tmp_path: Path, step: int
) -> None:
    """Row 16: the only worker and sweeper is an hour ahead (behind). Uploads in flight, their parts
    in the store, and objects that signed addresses may still name stay as they are."""
    chunks = chunks_of(12, seed=1)
    settings = {**HALF_AN_HOUR, **clock.environment}
    async with fleet(services, tmp_path, HALF_AN_HOUR) as here, AsyncExitStack() as stack:
        (steady,) = here.repositories
        await asyncio.to_thread(steady.stop)
        stepped = ServiceProcess("sluice_repository", tmp_path, {**here.settings, **settings})
        await stack.enter_async_context(_on_the_port_of(steady, stepped))

        for number in range(2):  # the second one supersedes the first one
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
        # That alone says little, for the store refuses requests that are signed at another time:
        # so it must not have tried either.
        assert "sweep.item_failed" not in stepped.log.read_text()
        await here.wire.send_stream(opened.upload_id, chunks[10:])
        clock.step(0)
        await here.judge()


@pytest.mark.slow_fault
@pytest.mark.parametrize("step", [HOUR, -HOUR])
async def test_an_intake_whose_clock_steps_opens_uploads_of_the_right_age(
    services: Services, clock: SteppedClock, tmp_path: Path, step: int
) -> None:
    """Row 16: what it opens lives as long as what another intake opens, by the clock of Redis."""
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
async def test_a_worker_an_hour_ahead_takes_no_lease_that_another_one_holds(
    services: Services, clock: SteppedClock, tmp_path: Path
) -> None:
    """Row 16: the part is in the hands of a steady worker, whose store is slow; the stepped one
    sees the lease as Redis sees it, and leaves the part alone."""
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
        # Started in step: a store refuses whoever signs with another time, at the start, too.
        settings = {**here.settings, **clock.environment}
        ahead = ServiceProcess("sluice_repository", tmp_path, settings, "--roles", "parts,sweeper")
        await enter(running(ahead))
        os.kill(ahead.pid, signal.SIGSTOP)  # so that it is not the first one to take the part
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
        # Longer than a lease: the holder's heartbeats keep it, by the clock of Redis.
        until_then = time.monotonic() + 1.5 * float(here.settings["SLUICE_QUEUE__LEASE_SECONDS"])
        while time.monotonic() < until_then:
            assert held() == claimed
            await sweeps_of(ahead)
        clock.step(0)
        store.heal()
        await here.judge()


@asynccontextmanager
async def _on_the_port_of(stopped: ServiceProcess, other: ServiceProcess) -> AsyncIterator[None]:
    """Run another process where a stopped one was, so that everybody finds it."""
    other.listen_like(stopped)
    async with running(other):
        yield


def _holds(services: Services, upload_id: str) -> Sequence[str]:
    """Who holds which part: its number, the counter of claims and the holder."""
    with services.redis.client() as redis:
        holds = redis.hgetall(f"upload:{{{upload_id}}}:holds")
    entries = ((number.decode(), *entry.decode().split(" ")) for number, entry in holds.items())
    return sorted(f"{number} {counter} {holder}" for number, counter, _until, holder in entries)
