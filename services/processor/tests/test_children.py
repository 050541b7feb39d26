"""Decoder children: what they decode and refuse, and when they are replaced."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import uvloop
from PIL import Image

from sluice_processor.images.children.pool import ImageWorkers
from sluice_processor.images.decoding import prepare, process_image
from sluice_processor.images.model import ImageRefused, RefusalReason
from support import pictures
from support.decoder_children import OPTIONS, SMALL, only, process, reason, resume
from support.files import held
from support.pictures import quadrants, saved


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


async def test_lowest_limit_of_pixels_refuses_pictures_only() -> None:
    """The self-test of a child has to pass it too."""
    async with ImageWorkers(replace(OPTIONS, workers=1, max_pixels=1)) as pool:
        with pytest.raises(ImageRefused) as refused:
            await process(pool, SMALL)
    assert refused.value.reason is RefusalReason.TOO_MANY_PIXELS
