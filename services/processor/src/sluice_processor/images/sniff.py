"""What the first bytes of an object say that it is; names and declared types are never asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import filetype

from sluice_processor.images.model import ImageFormat

HEAD_BYTES: Final = 8192
"""As many as `sniff` wants to see; fewer will do for most formats."""

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
"""HEVC in HEIF (ISO/IEC 23008-12, annex B); filetype knows the first alone, cameras write more."""
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_GENERAL_BRANDS: Final = frozenset({b"mif1", b"msf1"})
"""Say that it is HEIF and not with which codec; a compatible brand does."""


@dataclass(frozen=True, slots=True)
class Sniffed:
    """What an object's bytes begin like."""

    media_type: str | None
    """E.g. application/pdf; None for bytes that nobody knows."""
    format: ImageFormat | None
    """Set for what is on the allow-list; whether it really is one, the decoder decides."""


def sniff(head: bytes) -> Sniffed:
    """Name the type of an object by its first `HEAD_BYTES`."""
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
