"""Type detection by the first bytes of an object; names and declared types are ignored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import filetype

from sluice_processor.images.model import ImageFormat

HEAD_BYTES: Final = 8192
"""The number of bytes that `sniff` uses; most formats need fewer."""

_FORMATS: Final = {
    "image/jpeg": ImageFormat.JPEG,
    "image/png": ImageFormat.PNG,
    "image/apng": ImageFormat.PNG,
    "image/webp": ImageFormat.WEBP,
    "image/gif": ImageFormat.GIF,
    "image/heic": ImageFormat.HEIC,
    "image/avif": ImageFormat.AVIF,
    "image/tiff": ImageFormat.TIFF,
}
_HEIF_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})
"""HEVC in HEIF (ISO/IEC 23008-12, annex B); filetype knows only the first, cameras use others."""
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_GENERAL_BRANDS: Final = frozenset({b"mif1", b"msf1"})
"""HEIF without a codec; a compatible brand names the codec."""


@dataclass(frozen=True, slots=True)
class Sniffed:
    """The detected type of an object."""

    media_type: str | None
    """E.g. application/pdf; None for an unknown type."""
    format: ImageFormat | None
    """Set for formats on the allow-list; only the decoder knows whether the file is valid."""


def sniff(head: bytes) -> Sniffed:
    """Return the type of an object by its first `HEAD_BYTES`."""
    found = _image_of_brands(head)
    if found is not None:
        return Sniffed(found.media_type, found)
    kind = filetype.guess(bytes(head[:HEAD_BYTES])) if len(head) else None
    if kind is None:
        return Sniffed(None, None)
    return Sniffed(kind.mime, _FORMATS.get(kind.mime))


def _image_of_brands(head: bytes) -> ImageFormat | None:
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4], "big"), len(head), HEAD_BYTES)
    compatible = {head[at : at + 4] for at in range(16, end, 4)}
    major = head[8:12]
    brands = compatible if major in _GENERAL_BRANDS else {major}
    if brands & _AVIF_BRANDS:
        return ImageFormat.AVIF
    return ImageFormat.HEIC if brands & _HEIF_BRANDS else None
