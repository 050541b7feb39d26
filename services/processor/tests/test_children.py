"""Decoder children: confined, bounded, replaced; a failure costs one picture."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import uvloop
from PIL import Image

from sluice_processor.images.children import pool as children
from sluice_processor.images.children.pool import ImageWorkers, WorkersClosed
from sluice_processor.images.children.process import ChildNotStarted
from sluice_processor.images.decoding import prepare, process_image
from sluice_processor.images.model import (
    MIB,
    ImageOptions,
    ImageRefused,
    ProcessedImage,
    RefusalReason,
)
from support import pictures
from support.files import held
from support.pictures import quadrants, saved
from support.waiting import until

OPTIONS = ImageOptions(workers=1, thumbnail_sizes=(64, 128), wall_seconds=60)
SMALL = saved(quadrants(), "PNG")


@pytest.fixture
async def workers() -> AsyncIterator[ImageWorkers]:
    async with ImageWorkers(OPTIONS) as pool:
        yield pool


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that takes a child most of a second."""
    path = tmp_path_factory.mktemp("slow") / "slow.png"
    path.write_bytes(saved(Image.new("RGB", (10_000, 8_000)), "PNG", compress_level=1))
    return path


async def process(pool: ImageWorkers, data: bytes) -> ProcessedImage:
    with held(data) as fd:
        return await pool.process(fd)


async def reason(pool: ImageWorkers, data: bytes) -> RefusalReason:
    with pytest.raises(ImageRefused) as refused:
        await process(pool, data)
    return refused.value.reason


def only(pool: ImageWorkers) -> int:
    (pid,) = pool.pids
    return pid


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


def resume(*pids: int) -> None:
    """Continue the processes that still exist."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


# --- decoding ---------------------------------------------------------------------------------


async def test_confined_child_decodes_like_unconfined_process(
    workers: ImageWorkers,
) -> None:
    prepare()
    frames = [Image.new("RGB", (320, 200)) for _ in range(3)]
    files = {
        **{
            kind: encode(quadrants(), pictures.exif(6))
            for kind, encode in pictures.ENCODERS.items()
        },
        "profile": saved(quadrants(), "JPEG", icc_profile=pictures.swapping_profile()),
        "cmyk": saved(quadrants().convert("CMYK"), "JPEG"),
        "gif": saved(quadrants(), "GIF", save_all=True, append_images=frames),
        "webp frames": saved(quadrants(), "WEBP", save_all=True, append_images=frames),
        "mpo": saved(quadrants(), "MPO", save_all=True, append_images=frames),
        "lzw": saved(quadrants(), "TIFF", compression="tiff_lzw"),
        "jpeg tiff": saved(quadrants(), "TIFF", compression="jpeg"),
        "xmp": saved(quadrants(), "JPEG", xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"),
        "palette": saved(quadrants().quantize(8), "PNG", transparency=1),
        "broken exif": saved(quadrants(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff"),
    }
    for name, data in files.items():
        with held(data) as fd:
            expected = process_image(fd, OPTIONS, OPTIONS.thumbnail_sizes)
            done = await workers.process(fd)
        assert done.facts == expected.facts, name
        assert done.thumbnails == expected.thumbnails, name


def test_pool_works_on_uvloop(slow: Path) -> None:
    async def scenario() -> None:
        async with ImageWorkers(replace(OPTIONS, workers=2)) as pool:
            done = await asyncio.gather(*(process(pool, SMALL) for _ in range(6)))
            assert len({one.thumbnails[0].data for one in done}) == 1
            stopped = pool.pids
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            running = asyncio.create_task(pool.process(slow))
            await asyncio.sleep(0.1)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            resume(*stopped)
            assert await reason(pool, b"no picture") is RefusalReason.UNSUPPORTED_FORMAT
            pids = pool.pids
        assert not any(psutil.pid_exists(pid) for pid in pids)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


async def test_path_descriptor_and_custom_sizes_are_accepted(
    workers: ImageWorkers, tmp_path: Path
) -> None:
    path = tmp_path / "picture"
    path.write_bytes(SMALL)
    from_path = await workers.process(path)
    with held(SMALL) as fd:
        assert (await workers.process(fd)).thumbnails == from_path.thumbnails
        assert [t.size for t in (await workers.process(fd, (40, 20))).thumbnails] == [40, 20]
        assert (await workers.process(fd, ())).thumbnails == ()
        with pytest.raises(ValueError, match="pixel"):
            await workers.process(fd, (0,))


async def test_what_cannot_be_a_picture_does_not_reach_a_child(
    workers: ImageWorkers, tmp_path: Path
) -> None:
    pid = only(workers)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(FileNotFoundError):
        await workers.process(tmp_path / "nothing")
    with pytest.raises((ValueError, IsADirectoryError)):
        await workers.process(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="regular file"):
        await workers.process(tmp_path / "pipe")
    assert await reason(workers, b"") is RefusalReason.EMPTY
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", OPTIONS.max_source_bytes + 1)
    with pytest.raises(ImageRefused) as refused:
        await workers.process(tmp_path / "large")
    assert refused.value.reason is RefusalReason.TOO_LARGE


async def test_a_refused_picture_costs_no_child(workers: ImageWorkers) -> None:
    pid = only(workers)
    for data in (b"text", SMALL[:100], pictures.png_claiming(50_000, 50_000), pictures.png_bomb()):
        await reason(workers, data)
    await process(workers, SMALL)
    assert only(workers) == pid


async def test_damaged_files_kill_no_child(workers: ImageWorkers) -> None:
    """Decoders may need files only for damaged input; a confined child must have those too."""
    dice = random.Random(5)
    pid = only(workers)
    exif = pictures.exif()
    kinds = [kind for kind in pictures.ENCODERS if kind != "heic"]  # libheif crashes, rarely
    whole = [pictures.ENCODERS[kind](quadrants(64, 48), exif) for kind in kinds]
    for data in [*(saved(quadrants(64, 48), kind) for kind in ("GIF", "BMP")), *40 * whole]:
        damaged = bytearray(data)
        for _ in range(dice.randint(1, 8)):
            damaged[dice.randrange(min(len(damaged), dice.choice((16, 400, 10**6))))] = dice.choice(
                (0, 127, 255, dice.randrange(256))
            )
        with suppress(ImageRefused):
            await process(workers, bytes(damaged))
    assert only(workers) == pid


async def test_child_is_replaced_after_items_per_child() -> None:
    async with ImageWorkers(replace(OPTIONS, items_per_child=3)) as pool:
        seen = []
        for _ in range(7):
            await process(pool, SMALL)
            seen.append(pool.pids)
    assert len({pid for pids in seen for pid in pids}) == 3


async def test_more_callers_than_children_wait_their_turn() -> None:
    before = {child.pid for child in psutil.Process().children()}
    async with ImageWorkers(replace(OPTIONS, workers=2)) as pool:
        running = [asyncio.create_task(process(pool, SMALL)) for _ in range(40)]
        while not all(task.done() for task in running):
            now = {child.pid for child in psutil.Process().children()} - before
            assert len(now) == 2
            await asyncio.sleep(0.002)
        assert all(task.result().thumbnails for task in running)


# --- failures ------------------------------------------------------------------------------


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


async def test_child_that_is_not_ready_fails_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sluice_processor.images.children.process._MODULE", "this")  # exits
    with pytest.raises(ChildNotStarted, match="exited at its start"):
        async with ImageWorkers(OPTIONS):
            pytest.fail("must not start")
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


# --- confinement ----------------------------------------------------------------------------


def confined(body: str, **changes: float) -> subprocess.CompletedProcess[str]:
    """Run code in a confined process."""
    program = textwrap.dedent(
        f"""
        import os, resource, socket, sys
        from sluice_processor.images.children import confinement
        from sluice_processor.images.model import ImageOptions
        options = ImageOptions(**{changes!r})
        confinement.confine(options)
        """
    ) + textwrap.dedent(body)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_child_has_limits() -> None:
    done = confined(
        """
        assert resource.getrlimit(resource.RLIMIT_AS) == (300 << 20, 300 << 20)
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
        assert resource.getrlimit(resource.RLIMIT_FSIZE) == (0, 0)
        try:
            bytearray(400 << 20)
        except MemoryError:
            print("no memory")
        try:
            [os.dup(0) for _ in range(100)]
        except OSError:
            print("no descriptors")
        """,
        child_memory_bytes=300 << 20,
    )
    assert done.stdout.split("\n")[:2] == ["no memory", "no descriptors"], done.stderr


def test_a_child_can_open_neither_files_nor_connections() -> None:
    if _landlock_version() < 4:
        pytest.skip("this kernel has no Landlock, or one without network rules")
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = confined(
            f"""
            for name, action in [
                ("read", lambda: open("/etc/hostname")),
                ("list", lambda: os.listdir("/")),
                ("write", lambda: open("/tmp/sluice-child", "w")),
                ("run", lambda: os.execv("/bin/sh", ["sh"])),
                ("connect", lambda: socket.create_connection({server.getsockname()!r})),
            ]:
                try:
                    action()
                except PermissionError:
                    print(name)
            """
        )
    assert done.stdout.split() == ["read", "list", "write", "run", "connect"], done.stderr


def _landlock_version() -> int:
    import ctypes

    return int(ctypes.CDLL(None).syscall(444, None, 0, 1))


def test_processor_time_is_limited_by_the_picture() -> None:
    done = confined(
        """
        confinement.limit_time(options)
        while True:
            pass
        """,
        cpu_seconds=0,
    )
    assert done.returncode == -signal.SIGXCPU


def test_processor_time_is_limited_to_less_than_a_second() -> None:
    done = confined(
        """
        confinement.limit_time(options)
        while True:
            pass
        """,
        cpu_seconds=0.1,
    )
    assert done.returncode == -signal.SIGPROF


def test_alarm_ends_child_of_a_hanging_parent() -> None:
    done = confined(
        """
        confinement._GRACE_SECONDS = 0.1
        confinement.limit_time(options)
        import time
        time.sleep(30)
        """,
        wall_seconds=0,
    )
    assert done.returncode == -signal.SIGALRM


async def test_a_child_sees_nothing_of_the_service_s_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLUICE_S3__SECRET_KEY", "canary-secret")
    async with ImageWorkers(OPTIONS) as pool:
        try:
            seen = Path(f"/proc/{only(pool)}/environ").read_bytes()
        except PermissionError:  # prctl made it undumpable, which hides it from its own user
            seen = b""
    assert b"canary" not in seen
    assert b"SLUICE" not in seen


def test_child_is_replaced_after_every_retryable_reason() -> None:
    assert {one for one in RefusalReason if not one.is_final} == children._UNUSABLE_AFTER
