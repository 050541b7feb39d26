"""Thumbnails: upright, in sRGB, without metadata."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

from PIL import Image

from sluice_processor.images import colour
from sluice_processor.images.model import ImageFacts, ImageOptions, Thumbnail, ThumbnailFormat

_DRAFT_GAP: Final = 1.25
"""libjpeg scales with a box filter while decoding; a better filter does the last step."""
_REDUCING_GAP: Final = 2.0
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transposition that makes a picture of an orientation upright (EXIF 2.32, tag 0x0112)."""


def draft(image: Image.Image, largest: int) -> None:
    """Let libjpeg decode at 1/2, 1/4 or 1/8, if the result stays well above `largest`."""
    width, height = fit_within(image.size, round(largest * _DRAFT_GAP))
    image.draft(None, (width, height))


def fit_within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return a size of the same ratio with no side above `longest`; never enlarged, never 0."""
    side = max(size)
    if side <= longest:
        return size
    width, height = (max(1, round(part * longest / side)) for part in size)
    return width, height


def make(
    image: Image.Image,
    orientation: int,
    facts: ImageFacts,
    options: ImageOptions,
    sizes: Sequence[int],
) -> tuple[Thumbnail, ...]:
    """Return thumbnails in the order of `sizes`; each is scaled from the next larger one.

    Args:
        image: the pixels, perhaps decoded at reduced size (`draft`).
        orientation: to be applied to the pixels, 1 to 8.
        facts: their width and height bound the thumbnails.
    """
    made: dict[int, Thumbnail] = {}
    profile = image.info.get("icc_profile")
    current = colour.to_scalable_mode(image) if sizes else image
    upright = False
    for size in sorted(set(sizes), reverse=True):
        width, height = fit_within((facts.width, facts.height), size)
        if not upright:
            stored = (height, width) if orientation >= 5 else (width, height)
            current = colour.to_srgb(_scaled(current, stored), profile)
            if orientation in _TURNS:
                current = current.transpose(_TURNS[orientation])
            upright = True
        else:
            current = _scaled(current, (width, height))
        made[size] = _encoded(current, size, options)
    return tuple(made[size] for size in sizes)


def _scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if image.size == size:
        return image
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=_REDUCING_GAP)


def _encoded(image: Image.Image, size: int, options: ImageOptions) -> Thumbnail:
    kind = options.thumbnail_format
    parameters: dict[str, Any] = {"quality": options.thumbnail_quality}
    if kind is ThumbnailFormat.JPEG:
        image = colour.flatten_on_white(image)
    else:
        parameters["method"] = 2
    bare = image.copy()
    bare.info.clear()  # encoders write comments and profiles from here
    output = io.BytesIO()
    bare.save(output, kind.value.upper(), **parameters)
    return Thumbnail(size, *image.size, kind, output.getvalue())
