"""Files that cannot be shown are refused in time, with a typed reason."""

from __future__ import annotations

import asyncio
import io
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.ExifTags import Base

from sluice_processor.images.children.pool import ImageWorkers
from sluice_processor.images.decoding import prepare
from sluice_processor.images.model import (
    ImageOptions,
    ImageRefused,
    ProcessedImage,
    RefusalReason,
)
from sluice_processor.images.sniff import HEAD_BYTES, sniff
from support import pictures
from support.files import held
from support.inline_processing import OPTIONS, process
from support.pictures import quadrants, saved
from tools.pictures import png_chunk

pytestmark = pytest.mark.filterwarnings("ignore")
"""Pillow's warnings about the damage; children disable them too."""

SMALL = quadrants(48, 32)
WHOLE = {
    **{kind: encode(SMALL, pictures.exif()) for kind, encode in pictures.ENCODERS.items()},
    "gif": saved(SMALL, "GIF"),
    "apng": saved(SMALL, "PNG", save_all=True, append_images=[Image.new("RGB", (48, 32))]),
    "animated webp": saved(SMALL, "WEBP", save_all=True, append_images=[quadrants(48, 32)]),
    "lzw tiff": saved(SMALL, "TIFF", compression="tiff_lzw"),
    "progressive jpeg": saved(SMALL, "JPEG", progressive=True),
}


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    prepare()


def reason(data: bytes, options: ImageOptions = OPTIONS) -> RefusalReason:
    with pytest.raises(ImageRefused) as refused:
        process(data, options)
    return refused.value.reason


@pytest.mark.parametrize(
    "data",
    [
        b"hello, world",
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        b"PK\x03\x04" + bytes(100),
        b"\x7fELF\x02\x01\x01" + bytes(100),
        b"#!/bin/sh\nexit\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        bytes(4096),
        saved(quadrants(), "BMP"),
        saved(quadrants(), "ICO"),
        saved(quadrants(), "TGA"),
        saved(quadrants(), "PPM"),
        saved(quadrants(), "JPEG2000"),
        saved(quadrants(), "EPS"),
        b"II\x2b\x00\x08\x00\x00\x00" + bytes(100),
    ],
)
def test_format_off_the_allow_list_is_unsupported(data: bytes) -> None:
    assert reason(data) is RefusalReason.UNSUPPORTED_FORMAT


def test_raw_photo_in_tiff_is_unsupported() -> None:
    for tag, value in ((50706, b"\x01\x04\0\0"), (254, 1)):
        assert (
            reason(saved(quadrants(), "TIFF", tiffinfo={tag: value}))
            is RefusalReason.UNSUPPORTED_FORMAT
        )


def test_empty_file_is_refused() -> None:
    assert reason(b"") is RefusalReason.EMPTY


def test_too_many_pixels_are_refused_before_decoding() -> None:
    began = time.thread_time()
    assert reason(pictures.png_claiming(50_000, 50_000)) is RefusalReason.TOO_MANY_PIXELS
    assert reason(pictures.gif_claiming(60_000, 60_000)) is RefusalReason.TOO_MANY_PIXELS
    for kind in ("JPEG", "WEBP", "TIFF"):
        large = saved(Image.new("L", (2000, 1000)), kind)
        assert reason(large, replace(OPTIONS, max_pixels=1_999_999)) is (
            RefusalReason.TOO_MANY_PIXELS
        )
        process(large, replace(OPTIONS, max_pixels=2_000_000))
    assert time.thread_time() - began < 5


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("frames", [0, 1])
def test_webp_size_is_checked_before_decoder_allocates(lossless: bool, frames: int) -> None:
    more = {"save_all": True, "append_images": [Image.new("RGB", (48, 32))]} if frames else {}
    data = saved(SMALL, "WEBP", lossless=lossless, **more)
    assert process(data, replace(OPTIONS, max_pixels=48 * 32)).thumbnails
    assert reason(data, replace(OPTIONS, max_pixels=48 * 32 - 1)) is RefusalReason.TOO_MANY_PIXELS
    if frames:
        large = data[:24] + b"\xfe\x3f\0" * 2 + data[30:]
        assert reason(large) is RefusalReason.TOO_MANY_PIXELS


def test_gif_with_too_many_frames_is_refused_quickly() -> None:
    began = time.thread_time()
    assert reason(pictures.gif_of_frames(100_000)) is RefusalReason.TOO_MANY_FRAMES
    assert time.thread_time() - began < 2
    assert process(pictures.gif_of_frames(OPTIONS.max_frames)).facts.frames == OPTIONS.max_frames


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_frames_are_counted_in_every_format(kind: str) -> None:
    rest = [Image.new("RGB", (48, 32), (shade, 0, 0)) for shade in range(0, 250, 50)]
    data = saved(SMALL, kind, save_all=True, append_images=rest)
    assert process(data).facts.frames == 6
    assert reason(data, replace(OPTIONS, max_frames=5)) is RefusalReason.TOO_MANY_FRAMES


def test_tiff_with_cyclic_pages_is_corrupt() -> None:
    data = bytearray(saved(SMALL, "TIFF"))
    first = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)
    assert reason(bytes(data)) is RefusalReason.CORRUPT


def test_compressed_text_bomb_is_refused() -> None:
    assert reason(pictures.png_bomb()) is RefusalReason.BOMB


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (pictures.zip_behind(saved(SMALL, "JPEG")), "zip"),
        (pictures.zip_behind(saved(SMALL, "PNG")), "zip"),
        (pictures.zip_behind(saved(SMALL, "GIF")), "zip"),
        (saved(SMALL, "JPEG", comment=b"%PDF-1.4\n1 0 obj"), "pdf"),
        (saved(SMALL, "PNG") + b"\x7fELF\x02\x01\x01" + bytes(100), "behind"),
        (saved(SMALL, "WEBP") + b"Rar!\x1a\x07\x01\0" + bytes(100), "behind"),
    ],
)
def test_polyglot_is_refused(data: bytes, kind: str) -> None:
    assert reason(data) is RefusalReason.POLYGLOT


MARKUP = [
    b"<html><b>Sunset</b> at the pier</html>",
    b"<!DOCTYPE HTML><title>x</title>",
    b"<?php system($_GET[0]);",
    b"*/=1;</x><SCRIPT>alert(1)</SCRIPT>",
    b"how to write %PDF-1.4 by hand",
    b"%PDF-",
]


@pytest.mark.parametrize("caption", MARKUP)
@pytest.mark.parametrize("kind", ["JPEG", "GIF", "PNG", "EXIF"])
def test_markup_in_a_caption_is_no_polyglot(kind: str, caption: bytes) -> None:
    """A browser only uses the first bytes (WHATWG MIME Sniffing, section 7): a picture's."""
    if kind == "PNG":
        whole = saved(SMALL, "PNG")
        data = whole[:33] + png_chunk(b"tEXt", b"Comment\0" + caption) + whole[33:]
    elif kind == "EXIF":
        exif = Image.Exif()
        exif[Base.ImageDescription] = caption.decode()
        data = saved(SMALL, "JPEG", exif=exif.tobytes())
    else:
        data = saved(SMALL, kind, comment=caption)
    done = process(data)
    assert done.thumbnails
    assert not done.facts.damaged


def test_trailing_camera_data_is_no_polyglot() -> None:
    film = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(2000)
    for data in (saved(SMALL, "JPEG") + film, saved(SMALL, "PNG") + bytes(300)):
        assert process(data).thumbnails


PIXELS_END = {"webp": 150, "heic": 859}
"""End of the pixels in `WHOLE`, for kinds whose EXIF follows them and is as large."""


@pytest.mark.parametrize("kind", WHOLE)
def test_cut_file_is_refused_or_shows_whole_picture(kind: str) -> None:
    whole = WHOLE[kind]
    reference = process(whole).thumbnails[0]
    step = max(1, len(whole) // 150)
    needed = PIXELS_END.get(kind, 0.6 * len(whole))
    reasons = set()
    for length in [*range(1, len(whole) - 1, step), len(whole) - 1]:
        try:
            done = process(whole[:length])
        except ImageRefused as refused:
            reasons.add(refused.reason)
        else:  # the picture was complete, only trailing bytes are missing
            assert length >= needed, length
            assert done.thumbnails[0].data == reference.data
            assert done.facts.damaged
    assert RefusalReason.TRUNCATED in reasons
    assert reasons <= {
        RefusalReason.TRUNCATED,
        RefusalReason.CORRUPT,
        RefusalReason.UNSUPPORTED_FORMAT,
    }


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "HEIC"])
def test_half_a_file_is_called_truncated(kind: str) -> None:
    whole = pictures.heic(SMALL) if kind == "HEIC" else saved(SMALL, kind)
    assert reason(whole[: len(whole) // 2]) is RefusalReason.TRUNCATED


GENTLE = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

ChildProcess = Callable[[bytes], ProcessedImage]


@pytest.fixture(scope="module")
def process_in_child() -> Iterator[ChildProcess]:
    """Process bytes in a confined child, as the service does.

    A native decoder that dies of damaged bytes costs the child and raises `ImageRefused`; in this
    process it would end the test run.
    """
    pool = ImageWorkers(replace(OPTIONS, workers=1, max_pixels=1_000_000))

    async def processed(data: bytes) -> ProcessedImage:
        with held(data) as fd:
            return await pool.process(fd)

    with asyncio.Runner() as runner:
        runner.run(pool.__aenter__())
        try:
            yield lambda data: runner.run(processed(data))
        finally:
            runner.run(pool.__aexit__())


@GENTLE
@given(
    tail=st.binary(max_size=400),
    head=st.sampled_from([b"", *(data[:24] for data in WHOLE.values())]),
)
def test_any_bytes_get_a_reason(process_in_child: ChildProcess, tail: bytes, head: bytes) -> None:
    with pytest.raises(ImageRefused):
        process_in_child(head + tail)


@GENTLE
@given(data=st.data())
def test_a_damaged_file_is_shown_or_gets_a_reason(
    process_in_child: ChildProcess, data: st.DataObject
) -> None:
    whole = bytearray(WHOLE[data.draw(st.sampled_from(sorted(WHOLE)))])
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        done = process_in_child(bytes(whole))
    except ImageRefused:
        return
    thumbnail = done.thumbnails[0]
    with Image.open(io.BytesIO(thumbnail.data)) as image:
        assert image.size == (thumbnail.width, thumbnail.height)
        assert max(image.size) <= 64


@given(st.binary(max_size=HEAD_BYTES))
def test_sniffing_never_fails(head: bytes) -> None:
    sniff(head)
    sniff(b"\0\0\0\x18ftyp" + head)


@pytest.mark.parametrize(
    ("brand", "compatible", "expected"),
    [
        (b"heix", b"mif1heix", "image/heic"),
        (b"mif1", b"mif1heic", "image/heic"),
        (b"mif1", b"mif1avif", "image/avif"),
        (b"avif", b"mif1heic", "image/avif"),
        (b"avis", b"msf1", "image/avif"),
        (b"mif1", b"mif1jpeg", None),
        (b"isom", b"heic", None),
    ],
)
def test_brands_distinguish_heic_avif_and_video(
    brand: bytes, compatible: bytes, expected: str | None
) -> None:
    head = struct.pack(">I", 16 + len(compatible)) + b"ftyp" + brand + bytes(4) + compatible
    found = sniff(head + bytes(64))
    assert (found.format.media_type if found.format else None) == expected


def test_refusal_quotes_no_content() -> None:
    canary = b"canary-serial-90125"
    exif = pictures.exif()
    for kind, encode in pictures.ENCODERS.items():
        data = encode(SMALL, exif)
        end = min(len(data) * 3 // 4, PIXELS_END.get(kind, len(data)) - 20)
        with pytest.raises(ImageRefused) as refused:
            process(data[:end].replace(SMALL.tobytes()[:8], canary[:8]))
        said = f"{refused.value} {refused.value.detail!r}"
        assert not any(word in said for word in pictures.CANARY_WORDS), kind
        assert refused.value.__cause__ is None
