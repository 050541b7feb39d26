"""Conversion of any decoded mode to 8-bit sRGB, with or without transparency."""

from __future__ import annotations

import io
import math
from typing import Final

from PIL import Image, ImageCms

_SRGB: Final = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_LAB: Final = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
_MAX_PROFILE_BYTES: Final = 16 * 1024 * 1024


def to_scalable_mode(image: Image.Image) -> Image.Image:
    """Return the picture in a mode that can be scaled: no palette, no 16 bits, no single bits.

    The colour space is kept: the profile is applied later, to fewer pixels.
    """
    match image.mode:
        case "L" | "RGB" | "RGBA" | "LA" | "CMYK" | "LAB" | "RGBX":
            converted = image
        case "1":
            converted = image.convert("L")
        case "P" | "PA":
            see_through = image.mode == "PA" or "transparency" in image.info
            converted = image.convert("RGBA" if see_through else "RGB")
        case "I" | "F" | "I;16" | "I;16L" | "I;16B" | "I;16N":
            converted = _eight_bits(image)
        case "La" | "RGBa":
            converted = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
        case _:
            converted = image.convert("RGB")
    return _with_transparent_colour(converted)


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return RGB or RGBA in sRGB; ignore a profile that is broken or does not fit."""
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    opaque = image.convert(image.mode[:-1]) if alpha is not None else image
    colours = _profiled(opaque, profile)
    if colours.mode != "RGB":
        colours = colours.convert("RGB")
    if alpha is not None:
        colours = colours.copy() if colours is image else colours
        colours.putalpha(alpha)
    return colours


def flatten_on_white(image: Image.Image) -> Image.Image:
    """Return RGB with a white background behind transparent pixels."""
    if image.mode != "RGBA":
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _profiled(image: Image.Image, profile: bytes | None) -> Image.Image:
    source = _LAB if image.mode == "LAB" else None
    try:
        if source is None and profile and len(profile) <= _MAX_PROFILE_BYTES:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source is None:
            return image
        converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return converted if converted is not None else image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert grey of 16 bits, 32 bits or floats to grey of 8 bits."""
    if image.mode not in ("I", "F"):
        return image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    low, high = (float(value) for value in image.getextrema())  # type: ignore[arg-type]
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("grey values are not finite")
    if image.mode == "I":
        low, high = 0.0, _full_scale(high)
    elif low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    factor = 255 / (high - low) if high > low else 0.0
    shift = -low * factor
    return image.convert("F").point(lambda value: value * factor + shift).convert("L")


def _full_scale(highest: float) -> float:
    """Return the value of white for integers with this maximum."""
    return next((limit for limit in (255.0, 65535.0) if highest <= limit), 2.0**32 - 1)


def _with_transparent_colour(image: Image.Image) -> Image.Image:
    """Convert a single transparent colour (PNG's tRNS) to an alpha channel."""
    if image.mode in ("L", "RGB") and "transparency" in image.info:
        return image.convert("LA" if image.mode == "L" else "RGBA")
    return image
