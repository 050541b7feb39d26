"""Workaround for AVIF files with broken EXIF, which libavif refuses altogether."""

from __future__ import annotations

import io
import os
from typing import Final

_COMPLAINT: Final = "exif payload"
_ITEM: Final = b"Exif"
_UNKNOWN: Final = b"free"
"""An unknown item type, which readers skip."""


def is_exif_error(error: Exception) -> bool:
    """Return whether libavif refused a file because of its EXIF."""
    return _COMPLAINT in str(error).lower()


def without_exif(file: io.BufferedReader) -> io.BytesIO:
    """Return a copy whose EXIF item has an unknown type (ISO/IEC 14496-12, section 8.11.6)."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    data = bytearray(file.read())
    at = 0
    while at + 8 <= size:
        length = int.from_bytes(data[at : at + 4], "big")
        if length < 8:
            break
        if data[at + 4 : at + 8] == b"meta":
            data[at : at + length] = data[at : at + length].replace(_ITEM, _UNKNOWN)
        at += length
    return io.BytesIO(data)
