"""Decoder children that fail, hang or are killed: each costs at most one picture."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from PIL import Image

from sluice_processor.images.children import pool as children
from sluice_processor.images.children.pool import ImageWorkers, WorkersClosed
from sluice_processor.images.children.process import ChildNotStarted
from sluice_processor.images.model import MIB, ImageRefused, ProcessedImage, RefusalReason
from support import pictures
from support.decoder_children import OPTIONS, SMALL, only, process, reason, resume
from support.pictures import quadrants, saved
from support.waiting import until


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def wait_reaped(*pids: int) -> None:
    """Wait until all these processes have been reaped."""
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


async def stop_while_decoding(pid: int) -> None:
    """Wait until the child decodes, and stop it, so that it cannot finish on a slow machine."""
    process = psutil.Process(pid)
    before = process.cpu_times().user
    await until(lambda: process.cpu_times().user >= before + 0.02)
    os.kill(pid, signal.SIGSTOP)


async def test_memory_is_bounded_and_the_next_picture_is_served() -> None:
    limit = 256 * MIB
    large = saved(Image.new("RGB", (12_000, 8_000)), "PNG", compress_level=1)
    async with ImageWorkers(replace(OPTIONS, child_memory_bytes=limit)) as pool:
        pid = only(pool)
        running = asyncio.create_task(reason(pool, large))
        peak = 0
        while not running.done():
            with suppress(psutil.Error):
                peak = max(peak, psutil.Process(pid).memory_info().vms)
            await asyncio.sleep(0.002)
        assert await running is RefusalReason.MEMORY
        assert 0 < peak <= limit
        assert (await process(pool, SMALL)).thumbnails
        assert only(pool) != pid


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
async def test_lack_of_memory_is_refused_as_memory(kind: str) -> None:
    image = Image.new("RGB", (6000, 6000), (9, 9, 9))
    data = saved(image, kind, **({"speed": 10} if kind == "AVIF" else {}))
    options = replace(OPTIONS, child_memory_bytes=128 * MIB, thumbnail_sizes=(4000,))
    async with ImageWorkers(options) as pool:
        assert await reason(pool, data) is RefusalReason.MEMORY
        assert (await process(pool, SMALL)).thumbnails


async def test_a_child_that_hangs_is_killed_after_its_time() -> None:
    async with ImageWorkers(replace(OPTIONS, wall_seconds=0.3)) as pool:
        pid = only(pool)
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        assert await reason(pool, SMALL) is RefusalReason.TIMEOUT
        assert time.monotonic() - began < 30
        await wait_reaped(pid)
    async with ImageWorkers(OPTIONS) as pool:
        assert (await process(pool, SMALL)).thumbnails


async def test_busy_machine_does_not_fail_a_picture(slow: Path) -> None:
    """The wall time exceeds the limit of processor time while the child gets none."""
    options = replace(OPTIONS, cpu_seconds=4.0, wall_seconds=24.0)
    async with ImageWorkers(options) as pool:
        pid = only(pool)
        began = time.monotonic()
        running = asyncio.create_task(pool.process(slow))
        await stop_while_decoding(pid)
        await asyncio.sleep(1.1 * options.cpu_seconds)
        assert not running.done()
        resume(pid)
        assert (await running).thumbnails
        assert time.monotonic() - began > options.cpu_seconds


async def test_picture_beyond_its_processor_time_times_out(slow: Path) -> None:
    async with ImageWorkers(replace(OPTIONS, cpu_seconds=0.05)) as pool:
        with pytest.raises(ImageRefused) as refused:
            await pool.process(slow)
        assert refused.value.reason is RefusalReason.TIMEOUT
        assert "processor time" in refused.value.detail
        assert (await process(pool, saved(quadrants(16, 16), "GIF"))).thumbnails


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGKILL, RefusalReason.CRASHED),
        (signal.SIGSEGV, RefusalReason.CRASHED),
        (signal.SIGABRT, RefusalReason.CRASHED),
        (signal.SIGTERM, RefusalReason.CRASHED),
        (signal.SIGXCPU, RefusalReason.TIMEOUT),
        (signal.SIGPROF, RefusalReason.TIMEOUT),
        (signal.SIGALRM, RefusalReason.TIMEOUT),
    ],
)
async def test_a_child_that_dies_costs_the_one_picture(
    workers: ImageWorkers, slow: Path, number: signal.Signals, expected: RefusalReason
) -> None:
    pid = only(workers)
    running = asyncio.create_task(workers.process(slow))
    await stop_while_decoding(pid)
    waiting = asyncio.create_task(process(workers, SMALL))
    os.kill(pid, number)
    resume(pid)
    with pytest.raises(ImageRefused) as refused:
        await running
    assert refused.value.reason is expected
    assert not expected.is_final
    assert (await waiting).thumbnails
    await wait_reaped(pid)


async def test_a_child_that_died_idle_costs_nothing(workers: ImageWorkers) -> None:
    for _ in range(5):
        pid = only(workers)
        os.kill(pid, signal.SIGKILL)
        await wait_reaped(pid)
        assert (await process(workers, SMALL)).thumbnails


async def test_killed_children_cost_one_picture_each_and_leak_nothing() -> None:
    dice = random.Random(7)
    data = pictures.photo(1200, 900)
    before = open_descriptors()
    seen: set[int] = set()
    async with ImageWorkers(replace(OPTIONS, workers=2)) as pool:
        running = [asyncio.create_task(process(pool, data)) for _ in range(60)]
        killed: list[int] = []
        while not all(task.done() for task in running):
            await asyncio.sleep(dice.uniform(0, 0.15))
            seen |= pool.pids
            if pool.pids and len(killed) < 12:
                victim = dice.choice(sorted(pool.pids))
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    killed.append(victim)
        outcomes = await asyncio.gather(*running, return_exceptions=True)
        refused = [one for one in outcomes if isinstance(one, ImageRefused)]
        done = [one for one in outcomes if isinstance(one, ProcessedImage)]
        assert len(done) + len(refused) == 60
        assert {one.reason for one in refused} <= {RefusalReason.CRASHED}
        assert len(refused) <= len(killed)
        assert len({one.thumbnails for one in done}) == 1
        # A dying child would fail this picture.
        await wait_reaped(*killed)
        assert (await process(pool, data)).thumbnails == done[0].thumbnails
        seen |= pool.pids
    await wait_reaped(*seen)
    assert open_descriptors() <= before + 2


async def test_cancelled_caller_leaks_neither_child_nor_descriptor(
    workers: ImageWorkers, slow: Path
) -> None:
    await process(workers, SMALL)
    before = open_descriptors()

    async def cancelled(running: asyncio.Task[ProcessedImage]) -> None:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    for wait in (0.0, 0.001, 0.01, 0.05, 0.15):  # before the file is opened, sent, read, …
        pid = only(workers)
        os.kill(pid, signal.SIGSTOP)
        running = asyncio.create_task(workers.process(slow))
        await asyncio.sleep(wait)
        await cancelled(running)
        resume(pid)
        assert (await process(workers, SMALL)).thumbnails
    pid = only(workers)
    running = asyncio.create_task(workers.process(slow))
    await stop_while_decoding(pid)
    await cancelled(running)
    await wait_reaped(pid)
    assert (await process(workers, SMALL)).thumbnails
    assert open_descriptors() <= before


async def test_callers_of_closed_pool_get_workers_closed(slow: Path) -> None:
    async with ImageWorkers(OPTIONS) as pool:
        pid = only(pool)
        running = asyncio.create_task(pool.process(slow))
        await stop_while_decoding(pid)
        waiting = [asyncio.create_task(pool.process(slow)) for _ in range(3)]
        await asyncio.sleep(0.05)
    for task in (running, *waiting):
        with pytest.raises(WorkersClosed):
            await task
    with pytest.raises(WorkersClosed):
        await pool.process(slow)
    await wait_reaped(pid)


async def test_unusable_machine_fails_at_start() -> None:
    with pytest.raises(ChildNotStarted):
        async with ImageWorkers(replace(OPTIONS, workers=2, child_memory_bytes=8 * MIB)):
            pytest.fail("must not start")
    assert not [c for c in psutil.Process().children() if "sluice_processor" in str(c.cmdline())]


async def test_child_that_exits_fails_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice_processor.images.children.process._MODULE", "this")  # exits
    # The error has "immediately" when the child is reaped before its parent opens a pidfd.
    with pytest.raises(ChildNotStarted, match=r"exited (immediately )?at its start"):
        async with ImageWorkers(OPTIONS):
            pytest.fail("must not start")


async def test_child_that_is_not_ready_fails_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice_processor.images.children.protocol.READY", bytes(1024))
    with pytest.raises(ChildNotStarted, match="not ready within"):
        async with ImageWorkers(replace(OPTIONS, start_seconds=0.01)):
            pytest.fail("must not start")


async def test_an_answer_that_is_too_long_is_not_read() -> None:
    async with ImageWorkers(replace(OPTIONS, max_answer_bytes=300)) as pool:
        assert await reason(pool, SMALL) is RefusalReason.CRASHED


def test_children_end_with_a_parent_that_is_killed(slow: Path) -> None:
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from sluice_processor.images.children.pool import ImageWorkers
        from sluice_processor.images.model import ImageOptions

        async def main() -> None:
            async with ImageWorkers(ImageOptions(workers=2)) as pool:
                running = [asyncio.create_task(pool.process(Path(sys.argv[1])))]
                await asyncio.sleep(0.1)
                print(*pool.pids, flush=True)
                await asyncio.sleep(60)

        asyncio.run(main())
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(slow)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    ended = time.monotonic() + 30
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < ended
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_child_is_replaced_after_every_retryable_reason() -> None:
    assert {one for one in RefusalReason if not one.is_final} == children._UNUSABLE_AFTER
