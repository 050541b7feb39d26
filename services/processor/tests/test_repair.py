"""Damaged files: shown as damaged if all pixels are intact, refused otherwise."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from collections.abc import Mapping
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sluice_processor.images.decoding import prepare
from sluice_processor.images.model import ImageRefused, ProcessedImage, RefusalReason
from sluice_processor.images.repair import MAX_PROFILE_BYTES
from sluice_processor.images.splicing import splice
from support import pictures
from support.inline_processing import process
from support.pictures import quadrants, saved
from tools.pictures import png_chunk

pytestmark = pytest.mark.filterwarnings("ignore")
"""Pillow's warnings about the damage; children disable them too."""

SMALL: Final = quadrants(48, 32)
NOISE: Final = Image.effect_noise((64, 48), 90).convert("RGB")
ENDS: Final[Mapping[str, bytes]] = {
    "baseline": saved(NOISE, "JPEG", quality=90),
    "progressive": saved(NOISE, "JPEG", progressive=True),
    "restarts": saved(NOISE, "JPEG", restart_marker_rows=1),
    "grey": saved(NOISE.convert("L"), "JPEG"),
    "flat": saved(Image.new("RGB", (1000, 700), "white"), "JPEG", optimize=True),
}


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    prepare()


def shown(data: bytes, whole: bytes) -> ProcessedImage:
    """Process a damaged file; check that it equals the whole one and is marked as damaged."""
    done, reference = process(data), process(whole)
    assert not reference.facts.damaged
    assert done.facts.damaged
    assert done.thumbnails[0].data == reference.thumbnails[0].data
    return done


def reason(data: bytes) -> RefusalReason:
    with pytest.raises(ImageRefused) as refused:
        process(data)
    return refused.value.reason


# --- JPEG -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [1, 2])
@pytest.mark.parametrize("kind", ENDS)
def test_a_jpeg_without_its_end_is_shown(kind: str, missing: int) -> None:
    shown(ENDS[kind][:-missing], ENDS[kind])


@pytest.mark.parametrize("filling", [b"\0" * 5000, b"\xff" * 5000, b"not of the picture" * 20])
@pytest.mark.parametrize("kind", ["baseline", "progressive", "restarts"])
def test_a_jpeg_without_its_end_is_shown_with_filling(kind: str, filling: bytes) -> None:
    """Disks and flash memory pad the last sector of a cut file."""
    shown(ENDS[kind][:-2] + filling, ENDS[kind])


@pytest.mark.parametrize("filling", [b"", b"\0" * 5000, b"\0" * 200_000, b"\xff" * 5000])
@pytest.mark.parametrize("kind", ENDS)
def test_half_a_jpeg_is_truncated_whatever_fills_it_up(kind: str, filling: bytes) -> None:
    """Zeros instead of data decode to grey, which is not the picture."""
    whole = ENDS[kind]
    assert reason(whole[: len(whole) * 2 // 3] + filling) is RefusalReason.TRUNCATED


@pytest.mark.parametrize("missing", [8, 20, 100])
@pytest.mark.parametrize("kind", ["baseline", "progressive", "restarts"])
def test_a_jpeg_that_misses_some_data_is_truncated(kind: str, missing: int) -> None:
    assert reason(ENDS[kind][:-missing]) is RefusalReason.TRUNCATED


def test_a_progressive_jpeg_without_its_last_scan_is_truncated() -> None:
    whole = ENDS["progressive"]
    last = whole.rindex(b"\xff\xda")
    assert reason(whole[:last]) is RefusalReason.TRUNCATED
    assert reason(whole[:last] + bytes(1000)) is RefusalReason.TRUNCATED


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_jpeg_is_shown_exactly_if_its_data_is_there(data: st.DataObject) -> None:
    sides = st.integers(8, 90)
    size = data.draw(sides), data.draw(sides)
    noise = random.Random(data.draw(st.integers(0, 2**32)))
    image = Image.frombytes("L", size, noise.randbytes(size[0] * size[1]))
    whole = saved(
        image.convert("RGB"),
        "JPEG",
        quality=data.draw(st.integers(30, 95)),
        progressive=data.draw(st.booleans()),
        optimize=data.draw(st.booleans()),
        subsampling=data.draw(st.integers(0, 2)),
    )
    shown(whole[:-2], whole)
    assert reason(whole[: -2 - data.draw(st.integers(16, 60))]) is RefusalReason.TRUNCATED


def test_junk_between_the_segments_of_a_jpeg_is_skipped() -> None:
    whole = ENDS["baseline"]
    shown(whole[:2] + b"\xff\xe0\0\x07JFIF\0" + whole[2:], whole)  # too short to hold a version
    assert process(whole[:20] + b"junk" + whole[20:]).thumbnails


def test_a_photo_whose_second_picture_is_cut_is_shown() -> None:
    whole = saved(SMALL, "MPO", save_all=True, append_images=[NOISE.resize((48, 32))])
    assert process(whole[:-40]).thumbnails[0].data == process(whole).thumbnails[0].data


# --- PNG ------------------------------------------------------------------------------------------

PNG: Final = saved(SMALL, "PNG")


def with_chunk(name: bytes, data: bytes, *, checksum: int | None = None) -> bytes:
    chunk = png_chunk(name, data)
    if checksum is not None:
        chunk = chunk[:-4] + struct.pack(">I", checksum)
    return PNG[:33] + chunk + PNG[33:]


def test_a_png_without_its_end_is_shown() -> None:
    end = PNG.rindex(b"IEND") - 4
    for length in (end, end + 3, end + 8, end - 4):
        shown(PNG[:length], PNG)


@pytest.mark.parametrize(
    ("name", "data", "checksum"),
    [
        (b"tEXt", b"Comment\0hello", 1),
        (b"iTXt", b"Comment\0\0\0\0\0hello", 1),
        (b"pHYs", bytes(9), 1),
        (b"zzZz", b"unknown", 1),
        (b"eXIf", pictures.exif()[6:], 1),
        (b"iCCP", b"x\0\0" + zlib.compress(b"a"), 1),
        (b"pHYs", b"\0", None),
        (b"gAMA", b"\0", None),
        (b"tIME", b"\0", None),
    ],
)
def test_a_broken_chunk_does_not_hide_a_png(name: bytes, data: bytes, checksum: int | None) -> None:
    done = process(with_chunk(name, data, checksum=checksum))
    assert done.thumbnails[0].data == process(PNG).thumbnails[0].data
    assert done.facts.damaged or checksum is None


def test_a_wrong_checksum_behind_the_pixels_is_noted() -> None:
    end = PNG.rindex(b"IEND") - 4
    broken = bytearray(png_chunk(b"tEXt", b"Comment\0hello"))
    broken[-1] ^= 1
    shown(PNG[:end] + bytes(broken) + PNG[end:], PNG)


@pytest.mark.parametrize("megabytes", [1, 3, 15])
def test_a_large_colour_profile_does_not_hide_a_png(megabytes: int) -> None:
    """Printer profiles take megabytes; such a file is not damaged."""
    profile = zlib.compress(os.urandom(megabytes * 1_000_000), 1)
    done = process(with_chunk(b"iCCP", b"large\0\0" + profile))
    assert done.thumbnails[0].data == process(PNG).thumbnails[0].data
    assert not done.facts.damaged


def test_text_that_unpacks_into_much_more_is_still_a_bomb() -> None:
    assert reason(pictures.png_bomb(2 * MAX_PROFILE_BYTES >> 20)) is RefusalReason.BOMB


# --- other formats, and more than one picture in a file -------------------------------------------

GIF: Final = saved(SMALL, "GIF")
FRAMES: Final = {"save_all": True, "append_images": [NOISE.resize((48, 32))]}


@pytest.mark.parametrize("end", [b"", b"\xc3a\1\2", b"\0\0\0", b"\x21", b"\x2c\0\0"])
def test_a_gif_without_its_trailer_is_shown(end: bytes) -> None:
    shown(GIF[:-1] + end, GIF)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_a_cut_second_picture_does_not_hide_the_first(kind: str) -> None:
    whole = saved(SMALL, kind, **FRAMES)
    cut = len(whole) // 2 + 20 if kind == "TIFF" else len(whole) - 12
    shown(whole[:cut], whole)


@pytest.mark.parametrize("length", [0, 20, -9, 1000, 0xFFFFFFFF])
@pytest.mark.parametrize("frames", [{}, FRAMES])
def test_a_webp_of_a_wrong_length_is_shown(length: int, frames: dict[str, object]) -> None:
    whole = saved(SMALL, "WEBP", **frames)
    stated = length if length in (0, 20, 0xFFFFFFFF) else len(whole) + length
    done = process(whole[:4] + struct.pack("<I", stated) + whole[8:])
    assert done.thumbnails[0].data == process(whole).thumbnails[0].data
    assert done.facts.damaged


@pytest.mark.parametrize("kind", ["webp", "heic"])
def test_cut_metadata_behind_the_pixels_does_not_hide_them(kind: str) -> None:
    whole = pictures.ENCODERS[kind](SMALL, pictures.exif())
    for missing in (1, 7, 300):
        shown(whole[:-missing], whole)


@pytest.mark.parametrize("trailing", [b"\0", b"x", b"\xff" * 100, b"some words " * 30])
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "avif", "heic", "tiff"])
def test_bytes_behind_a_picture_do_not_hide_it(kind: str, trailing: bytes) -> None:
    whole = pictures.ENCODERS[kind](SMALL, pictures.exif())
    done = process(whole + trailing)
    assert done.thumbnails[0].data == process(whole).thumbnails[0].data


@pytest.mark.parametrize("kind", ["AVIF", "HEIC"])
def test_missing_pixels_of_a_heif_are_truncated(kind: str) -> None:
    whole = pictures.heic(SMALL) if kind == "HEIC" else saved(SMALL, kind)
    for missing in (1, 20, 40):
        assert reason(whole[:-missing]) is RefusalReason.TRUNCATED


@given(
    st.binary(max_size=50),
    st.lists(st.one_of(st.binary(max_size=9), st.tuples(st.integers(0, 50), st.integers(0, 50)))),
    st.integers(0, 100),
    st.integers(0, 100),
)
def test_splice_concatenates_pieces(
    data: bytes, pieces: list[bytes | tuple[int, int]], at: int, count: int
) -> None:
    within = [
        one if isinstance(one, bytes) else (min(one[0], len(data)), min(one[1], len(data)))
        for one in pieces
    ]
    whole = b"".join(one if isinstance(one, bytes) else data[one[0] : one[1]] for one in within)
    file = splice(io.BufferedReader(io.BytesIO(data)), within)
    assert file.read() == whole
    file.seek(at)
    assert file.read(count) == whole[at : at + count]
    assert file.seek(0, os.SEEK_END) == len(whole)
