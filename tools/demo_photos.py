"""Photos of `make demo`: uploads, and verification of the processor's results."""

from __future__ import annotations

import asyncio
import hashlib
import io
import math
import os
import sysconfig
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageChops, ImageCms, ImageOps, ImageStat
from PIL.ExifTags import IFD, Base

from bench.load.photos import photo
from sluice_client import Client, Node, Processing
from tools.cameras import CAMERAS, PHONE, REFLEX, SYSTEM
from tools.pictures import (
    CORNERS,
    ENCODERS,
    HEIC_ORIENTATION,
    Camera,
    animated,
    as_stored,
    close,
    corners,
    quadrants,
    ready_made_heic,
    saved,
    sixteen_bit_grey,
    sixteen_bit_png,
)

THUMBNAILS: Final = (256, 1024)
PROCESSING_SECONDS: Final = 120.0
AT_ONCE: Final = 8
REAL_PICTURES: Final = 40
_REAL_BYTES: Final = range(500, 8 * 1024 * 1024)
_REAL_PIXELS: Final = 40_000_000
_REAL_SUFFIXES: Final = {".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".tiff", ".avif"}
_MADE_SIZE: Final = (640, 400)
_CAMERA_SIZE: Final = (1600, 1200)
_TOLERATED: Final = 12.0
"""Tolerated mean difference of a colour channel, of 255: caused by lossy encoding and other
filters, most of all in small icons. A generated photo with the wrong orientation differs by more
than 50.
"""
_MACHINES_FAULT: Final = {"MEMORY", "TIMEOUT", "CRASHED", "CHECKSUM_MISMATCH"}


class DemoFailed(Exception):
    """A result is wrong; the message says which."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Expected results of one picture.

    `upright`: as a person should see it; None where it is unknown. `exif` and `location` None:
    compare only `some_exif`.
    """

    name: str
    size: tuple[int, int]
    upright: Image.Image | None
    frames: int = 1
    exif: Mapping[str, Any] | None = None
    location: Mapping[str, Any] | None = None
    some_exif: Mapping[str, Any] | None = None
    marked: bool = False
    """Whether its four corners have the colours of `quadrants`."""

    @property
    def generated(self) -> bool:
        return self.exif is not None


# --- uploads --------------------------------------------------------------------------------------


def make_photos(folder: Path) -> list[Expected]:
    """Write the generated photos. Return the expected results of each."""
    folder.mkdir(parents=True)
    return [_write(folder, expected, data) for expected, data in _generated_photos()]


def _write(folder: Path, expected: Expected, data: bytes) -> Expected:
    (folder / expected.name).write_bytes(data)
    return expected


def _generated_photos() -> Iterator[tuple[Expected, bytes]]:
    upright = quadrants(*_MADE_SIZE)
    for name, camera in CAMERAS.items():
        data = photo(*_CAMERA_SIZE, seed=len(name), exif=camera.exif())
        with Image.open(io.BytesIO(data)) as opened:
            yield _of(f"camera-{name}.jpg", opened.convert("RGB"), camera=camera), data
    for orientation in range(1, 9):
        stored, exif = as_stored(upright, orientation), REFLEX.exif(orientation)
        for kind in ("jpeg",) if orientation != 6 else ENCODERS:
            name = f"orientation-{orientation}.{kind}"
            yield (
                _of(name, upright, camera=REFLEX, orientation=orientation, marked=True),
                ENCODERS[kind](stored, exif),
            )
    yield (
        _of("phone.heic", upright, camera=PHONE, orientation=HEIC_ORIENTATION, marked=True),
        ready_made_heic(),
    )
    cmyk = upright.convert("CMYK")
    exif = SYSTEM.exif()
    yield (
        _of("cmyk.jpg", cmyk.convert("RGB"), camera=SYSTEM, marked=True),
        saved(cmyk, "JPEG", quality=95, exif=exif),
    )
    yield _of("16-bit.png", upright, marked=True), sixteen_bit_png(upright)
    grey = upright.convert("L").convert("RGB")
    deep = sixteen_bit_grey(upright)
    yield _of("16-bit-grey.png", grey), saved(deep, "PNG")
    yield _of("16-bit-grey.tiff", grey), saved(deep, "TIFF", compression="tiff_lzw")
    for kind in ("gif", "webp"):
        yield _of(f"animated.{kind}", upright, frames=3, marked=True), animated(upright, kind)


def _of(
    name: str,
    upright: Image.Image,
    *,
    camera: Camera | None = None,
    orientation: int = 1,
    frames: int = 1,
    marked: bool = False,
) -> Expected:
    known = {} if camera is None else {**camera.facts, "orientation": orientation}
    return Expected(
        name=name,
        size=upright.size,
        upright=upright,
        frames=frames,
        exif=known,
        location=None if camera is None else camera.location,
        marked=marked,
    )


def collect_real_pictures(folder: Path, own: Path | None = None) -> list[Expected]:
    """Copy some of this machine's pictures, of as many kinds as possible, to `folder`.

    Args:
        own: a folder with the user's own pictures.
    """
    folder.mkdir(parents=True)
    chosen: dict[bytes, Expected] = {}
    for path in _different_kinds_first(_candidates(own)):
        if len(chosen) == REAL_PICTURES:
            break
        data = path.read_bytes()
        digest = hashlib.sha256(data).digest()
        if digest in chosen:
            continue
        expected = _expected_by_pillow(f"{len(chosen):03d}-{path.name}", data)
        if expected is not None:
            chosen[digest] = _write(folder, expected, data)
    return list(chosen.values())


def _candidates(own: Path | None) -> Iterator[Path]:
    """Yield the user's pictures, those of Python, and those of the system's folders."""
    if own is not None:
        yield from islice(_pictures_below(own), REAL_PICTURES)
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    for root in (stdlib / "test", Path("/usr/share"), Path("/usr/lib"), Path("/opt")):
        yield from islice(_pictures_below(root), 5 * REAL_PICTURES)


def _pictures_below(root: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if path.suffix.lower() not in _REAL_SUFFIXES or path.is_symlink():
                continue
            if path.is_file() and os.access(path, os.R_OK) and path.stat().st_size in _REAL_BYTES:
                yield path


def _different_kinds_first(paths: Iterator[Path]) -> list[Path]:
    """Return one picture of each suffix, then the next of each, and so on."""
    by_suffix: dict[str, list[Path]] = {}
    for path in paths:
        by_suffix.setdefault(path.suffix.lower(), []).append(path)
    ranked = [(rank, path) for same in by_suffix.values() for rank, path in enumerate(same)]
    return [path for _, path in sorted(ranked, key=lambda one: one[0])]


def _expected_by_pillow(name: str, data: bytes) -> Expected | None:
    """Return the expectation by Pillow, independent of the server's code; None if it cannot read
    the picture.
    """
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as opened:
            warnings.simplefilter("ignore")  # about damaged EXIF, which is not under test
            if math.prod(opened.size) > _REAL_PIXELS:
                return None
            frames = getattr(opened, "n_frames", 1)
            exif = opened.getexif()
            some = {"camera_make": exif.get(Base.Make), "camera_model": exif.get(Base.Model)}
            taken = exif.get_ifd(IFD.Exif).get(Base.DateTimeOriginal)
            opened.load()
            turned = ImageOps.exif_transpose(opened)
            shown = _on_white(turned)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    known = {key: value.strip("\0 ") for key, value in some.items() if isinstance(value, str)}
    if isinstance(taken, str) and taken[:4].isdigit() and taken[:4] > "1826":
        known["taken_at"] = taken[:10].replace(":", "-") + "T" + taken[11:19]
    return Expected(name, turned.size, shown, frames, some_exif=known)


def _on_white(image: Image.Image) -> Image.Image | None:
    """Return RGB with transparency on white; None for modes that Pillow scales down to 8 bits
    incorrectly.
    """
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"):
        return None
    see_through = image.convert("RGBA") if image.mode != "CMYK" else image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(see_through, mask=see_through if see_through.mode == "RGBA" else None)
    profile = image.info.get("icc_profile")
    if not profile:
        return white
    if image.mode not in ("RGB", "RGBA"):
        return None
    try:
        srgb = ImageCms.createProfile("sRGB")
        found = ImageCms.profileToProfile(white, io.BytesIO(profile), srgb)
    except (ImageCms.PyCMSError, OSError):
        return None
    return found


# --- results --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """Counts of what was compared."""

    pictures: int = 0
    thumbnails: int = 0
    fields: int = 0
    refused: int = 0


async def check_photos(
    address: str, drive: str, prefix: str, photos: Sequence[Expected], show: Any = print
) -> Tally:
    """Wait until every photo is processed, download every thumbnail, compare.

    Raise `DemoFailed` with all differences.
    """
    tally, wrong = Tally(), list[str]()
    gate = asyncio.Semaphore(AT_ONCE)
    deadline = time.monotonic() + PROCESSING_SECONDS
    async with Client(address) as client:

        async def check(expected: Expected) -> None:
            path = f"{prefix}/{expected.name}"
            async with gate:
                try:
                    processing = await _processing(client, drive, path, deadline)
                    shown = await _check(client, drive, path, expected, processing, tally)
                except DemoFailed as failure:
                    wrong.append(f"{expected.name}: {failure}")
                    shown = f"WRONG: {failure}"
                show(f"  {expected.name:<28} {shown}")

        async with asyncio.TaskGroup() as group:
            for expected in photos:
                group.create_task(check(expected))
    if wrong:
        raise DemoFailed("\n".join(sorted(wrong)))
    return tally


async def _processing(client: Client, drive: str, path: str, deadline: float) -> Processing:
    while True:
        node: Node = await client.stat(drive=drive, path=path)
        if node.processing is not None:
            return node.processing
        if time.monotonic() > deadline:
            raise DemoFailed(f"not processed within {PROCESSING_SECONDS:g} s")
        await asyncio.sleep(0.1)


async def _check(
    client: Client, drive: str, path: str, expected: Expected, found: Processing, tally: Tally
) -> str:
    """Compare one picture. Return a line for people. Raise `DemoFailed`."""
    tally.pictures += 1
    if found.state != "PROCESSED":
        if expected.generated or found.reason in _MACHINES_FAULT:
            raise DemoFailed(f"{found.state} {found.reason}: {found.detail}")
        tally.refused += 1
        return f"refused: {found.reason}"
    _equal("size", (found.width, found.height), expected.size)
    _equal("frames", found.frames, expected.frames)
    tally.fields += 3 + _check_facts(expected, found)
    _equal("thumbnails", tuple(one.size for one in found.thumbnails), THUMBNAILS)
    worst = 0.0
    for one in found.thumbnails:
        result = await client.download(drive=drive, path=path, thumbnail_size=one.size)
        assert result.data is not None, "no destination was given"
        thumbnail = _opened_bare(result.data)
        _equal(f"thumbnail {one.size}", thumbnail.size, fitted(expected.size, one.size))
        worst = max(worst, _difference(thumbnail, expected))
        tally.thumbnails += 1
    width, height = expected.size
    seen = f"differs by {worst:.1f} of 255" if expected.upright is not None else "not compared"
    return f"{found.content_type:<11} {width:>5} x {height:<5} {seen}, {_facts_shown(found)}"


def _check_facts(expected: Expected, found: Processing) -> int:
    """Compare field by field. Return how many."""
    if expected.exif is not None:
        exif = dict(expected.exif)
        if found.content_type == "image/avif" and exif.get("orientation") == 1:
            del exif["orientation"]
        for key in sorted({*exif, *found.exif} - {"orientation"}):
            _equal(key, found.exif.get(key), exif.get(key))
        if exif:
            _equal("orientation", found.exif.get("orientation"), exif.get("orientation"))
        place, known = found.location or {}, expected.location or {}
        for key in sorted({*place, *known}):
            _equal(key, place.get(key), known.get(key))
        return len(exif) + len(known)
    some = expected.some_exif or {}
    for key, value in some.items():
        _equal(key, str(found.exif.get(key, ""))[: len(value)], value)
    return len(some)


def _equal(what: str, found: Any, expected: Any) -> None:
    if isinstance(expected, float) and isinstance(found, int | float):
        if math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-9):
            return
    elif found == expected:
        return
    raise DemoFailed(f"{what} is {found!r} and has to be {expected!r}")


def fitted(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return the size of a picture whose longest side is at most `longest`; never enlarge it."""
    scale = min(1.0, longest / max(size))
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


def _opened_bare(data: bytes) -> Image.Image:
    """Return a thumbnail. Raise `DemoFailed` when it contains anything but pixels."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        carried = {"exif", "icc_profile", "xmp", "comment"} & set(image.info)
        if carried or image.getexif():
            raise DemoFailed(f"the thumbnail carries {sorted(carried) or 'EXIF'}")
        return image.copy()


def _difference(thumbnail: Image.Image, expected: Expected) -> float:
    """Return the mean difference of a pixel's channel, 0 to 255.

    Raise `DemoFailed` above the tolerance.
    """
    shown = _on_white(thumbnail)
    assert shown is not None, "thumbnails are RGB or RGBA"
    if expected.marked and not close(corners(shown), CORNERS, by=40):
        raise DemoFailed("the thumbnail is not the right way up, or its colours are wrong")
    if expected.upright is None:
        return 0.0
    reference = expected.upright.resize(shown.size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    means = ImageStat.Stat(ImageChops.difference(shown, reference.convert("RGB"))).mean
    difference = sum(means) / len(means)
    if difference > _TOLERATED:
        raise DemoFailed(f"the thumbnail of {max(shown.size)} differs by {difference:.1f} of 255")
    return difference


def _facts_shown(found: Processing) -> str:
    place = "" if found.location is None else ", a place"
    return f"{len(found.exif)} facts{place}"
