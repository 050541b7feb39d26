"""Decoding of all kinds of pictures to upright thumbnails in sRGB without metadata."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence

import pytest
from PIL import Image, ImageCms, ImageOps

from sluice_processor.images.decoding import prepare, process_image
from sluice_processor.images.model import (
    ImageFormat,
    ImageOptions,
    ProcessedImage,
    Thumbnail,
    ThumbnailFormat,
)
from support import inline_processing, pictures
from support.pictures import CORNERS, RED, close, corners, quadrants, saved

JPEG_OUT = ImageOptions(thumbnail_format=ThumbnailFormat.JPEG)
WEBP_OUT = ImageOptions(thumbnail_format=ThumbnailFormat.WEBP)


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    prepare()


def process(
    data: bytes, options: ImageOptions = WEBP_OUT, sizes: Sequence[int] = (64, 128)
) -> ProcessedImage:
    return inline_processing.process(data, options, sizes)


def shown(thumbnail: Thumbnail) -> Image.Image:
    image = Image.open(io.BytesIO(thumbnail.data))
    image.load()
    assert image.size == (thumbnail.width, thumbnail.height)
    assert image.format == thumbnail.format.upper()
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", pictures.ENCODERS)
def test_every_orientation_becomes_upright(kind: str, orientation: int) -> None:
    stored = pictures.as_stored(quadrants(), orientation)
    data = pictures.ENCODERS[kind](stored, pictures.exif(orientation))
    done = process(data)
    assert (done.facts.format, done.facts.frames) == (ImageFormat(kind), 1)
    assert (done.facts.width, done.facts.height) == (320, 200)
    assert [(t.size, t.width, t.height) for t in done.thumbnails] == [(64, 64, 40), (128, 128, 80)]
    for thumbnail in done.thumbnails:
        assert close(corners(shown(thumbnail)), CORNERS)


@pytest.mark.parametrize("kind", pictures.ENCODERS)
def test_exif_is_read_field_by_field_from_every_format(kind: str) -> None:
    facts = process(pictures.ENCODERS[kind](quadrants(), pictures.exif())).facts
    expected = dict(pictures.EXIF_FACTS)
    if kind == "avif":
        del expected["orientation"]  # its encoder omits the default orientation
    assert facts.exif.to_json() == expected
    assert facts.gps is not None
    assert facts.gps.to_json() == pytest.approx(pictures.GPS_FACTS)


@pytest.mark.parametrize("options", [JPEG_OUT, WEBP_OUT], ids=["jpeg", "webp"])
@pytest.mark.parametrize("kind", pictures.ENCODERS)
def test_a_thumbnail_carries_nothing_but_pixels(kind: str, options: ImageOptions) -> None:
    image = quadrants()
    image.info["comment"] = b"canary-comment"
    exif = pictures.exif(6)
    for thumbnail in process(pictures.ENCODERS[kind](image, exif), options).thumbnails:
        found = shown(thumbnail)
        assert not found.getexif()
        assert not {"exif", "icc_profile", "xmp", "comment", "photoshop"} & set(found.info)
        for word in (b"Exif", b"Kyocera", b"canary", b"ICC", b"http"):
            assert word not in thumbnail.data


def test_no_size_is_larger_than_the_picture() -> None:
    done = process(saved(quadrants(100, 60), "PNG"), sizes=(32, 100, 1024))
    assert [(t.size, t.width, t.height) for t in done.thumbnails] == [
        (32, 32, 19), (100, 100, 60), (1024, 100, 60),
    ]  # fmt: skip


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (3, 5)])
def test_thin_pictures_keep_at_least_one_pixel(size: tuple[int, int]) -> None:
    for kind in ("PNG", "JPEG"):
        for options in (JPEG_OUT, WEBP_OUT):
            done = process(saved(Image.new("RGB", size, RED), kind), options)
            assert (done.facts.width, done.facts.height) == size
            assert all(min(t.width, t.height) >= 1 for t in done.thumbnails)


def test_sizes_in_any_order_repeated_or_none_are_accepted() -> None:
    data = saved(quadrants(), "JPEG")
    assert [t.size for t in process(data, sizes=(50, 200, 50, 10)).thumbnails] == [50, 200, 50, 10]
    facts = process(data, sizes=()).facts
    assert (facts.width, facts.height) == (320, 200)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "CMYK"])
@pytest.mark.parametrize("options", [JPEG_OUT, WEBP_OUT], ids=["jpeg", "webp"])
def test_every_mode_shows_the_same_picture(mode: str, options: ImageOptions) -> None:
    source = quadrants()
    kind = "TIFF" if mode in ("CMYK", "I") else "PNG"
    grey = ImageOps.grayscale(source)
    expected = source
    if mode in ("I;16", "I"):
        stored = Image.frombytes("I;16", source.size, _doubled(grey.tobytes()))
        stored = stored.convert("I") if mode == "I" else stored
        expected = grey.convert("RGB")
    elif mode == "1":
        stored = grey.point(lambda value: 255 * (value > 100)).convert("1")
        expected = stored.convert("RGB")
    else:
        stored = source.convert(mode, palette=Image.Palette.ADAPTIVE)
        expected = stored.convert("RGB")
    done = process(saved(stored, kind), options)
    for thumbnail in done.thumbnails:
        assert close(corners(shown(thumbnail)), corners(expected))


def _doubled(grey: bytes) -> bytes:
    """Return 16-bit values with equal upper and lower bytes."""
    return bytes(value for one in grey for value in (one, one))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"])
def test_compressed_tiffs(compression: str) -> None:
    done = process(saved(quadrants(), "TIFF", compression=compression))
    assert close(corners(shown(done.thumbnails[1])), CORNERS)


def test_sixteen_bits_a_colour_are_read() -> None:
    width, height = 40, 20
    rows = b"".join(
        b"\0" + b"".join(bytes((v, 7)) for x in range(width) for v in (255 * x // width, 128, 0))
        for _ in range(height)
    )
    done = process(pictures.png_of_rows(width, height, depth=16, colour_type=2, rows=rows))
    image = shown(done.thumbnails[1]).convert("RGB")
    assert close([image.getpixel((20, 10))], [(127, 128, 0)])  # type: ignore[list-item]


def test_floats_are_shown_from_their_darkest_to_their_lightest() -> None:
    grey = ImageOps.grayscale(quadrants()).convert("F")
    for low, high in ((0.0, 1.0), (-1000.0, 5000.0)):
        scaled = grey.point(lambda v, low=low, high=high: v * ((high - low) / 255) + low)
        found = corners(shown(process(saved(scaled, "TIFF")).thumbnails[0]))
        brightness = [sum(pixel) for pixel in found]
        assert brightness[2] < brightness[0] < brightness[1] < brightness[3]


def test_a_jpeg_in_cmyk_as_printers_make_it() -> None:
    done = process(saved(quadrants().convert("CMYK"), "JPEG", quality=95))
    assert close(corners(shown(done.thumbnails[1])), CORNERS)


def test_transparency_stays_in_webp_and_becomes_white_in_jpeg() -> None:
    image = quadrants().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 160, 100))
    data = saved(image, "PNG")
    kept = shown(process(data).thumbnails[1])
    assert kept.mode == "RGBA"
    assert kept.getpixel((32, 20))[3] == 0  # type: ignore[index]
    assert close(corners(kept)[1:], CORNERS[1:])
    flat = shown(process(data, JPEG_OUT).thumbnails[1])
    assert close(corners(flat), [(255, 255, 255), *CORNERS[1:]])


def test_a_colour_that_counts_as_transparent_is() -> None:
    palette = quadrants().quantize(4)
    index = palette.getpixel((10, 10))
    for image, colour in ((palette, index), (quadrants(), RED)):
        flat = process(saved(image, "PNG", transparency=colour), JPEG_OUT, (320,)).thumbnails[0]
        assert close(corners(shown(flat)), [(255, 255, 255), *CORNERS[1:]])


def test_a_profile_is_applied_and_left_out() -> None:
    """Equal values in a wider gamut are other colours, and differ after conversion to sRGB."""
    wide = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    lab = ImageCms.profileToProfile(
        quadrants(), ImageCms.createProfile("sRGB"), wide, outputMode="LAB"
    )
    assert lab is not None
    done = process(saved(lab, "TIFF"))
    assert close(corners(shown(done.thumbnails[1])), CORNERS)


def test_a_profile_that_swaps_colours_is_followed() -> None:
    profile = pictures.swapping_profile()
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        done = process(saved(quadrants(), kind, icc_profile=profile))
        thumbnail = shown(done.thumbnails[1])
        assert "icc_profile" not in thumbnail.info
        red, green, blue, _ = corners(thumbnail)
        assert close([red, blue], [(RED[2], RED[1], RED[0]), (220, 60, 40)], by=32), kind
        assert green[1] > 150


def test_a_broken_profile_counts_as_none() -> None:
    done = process(saved(quadrants(), "PNG", icc_profile=b"no profile at all" * 20))
    assert close(corners(shown(done.thumbnails[1])), CORNERS)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_of_an_animation_the_first_frame_is_shown(kind: str) -> None:
    rest = [Image.new("RGB", (320, 200), colour) for colour in ("black", "white")]
    data = saved(quadrants(), kind, save_all=True, append_images=rest, duration=50)
    done = process(data)
    assert done.facts.frames == 3
    assert close(corners(shown(done.thumbnails[1])), CORNERS)


def test_the_pictures_of_a_stereo_jpeg_are_one_photo() -> None:
    data = saved(quadrants(), "MPO", save_all=True, append_images=[Image.new("RGB", (320, 200))])
    done = process(data)
    assert (done.facts.format, done.facts.frames) == (ImageFormat.JPEG, 1)
    assert close(corners(shown(done.thumbnails[0])), CORNERS)


def test_a_large_jpeg_is_decoded_small_and_reported_large() -> None:
    done = process(pictures.photo(2400, 1600), sizes=(256,))
    assert (done.facts.width, done.facts.height) == (2400, 1600)
    assert (done.thumbnails[0].width, done.thumbnails[0].height) == (256, 171)
    assert done.decode_seconds > 0
    assert done.thumbnail_seconds > 0


def test_the_caller_s_position_in_the_file_is_left_alone() -> None:
    fd = os.memfd_create("picture")
    try:
        os.write(fd, saved(quadrants(), "PNG"))
        os.lseek(fd, 5, os.SEEK_SET)
        process_image(fd, WEBP_OUT, (64,))
        assert os.lseek(fd, 0, os.SEEK_CUR) == 5
    finally:
        os.close(fd)
