"""AVIF with broken EXIF: libavif refuses the file, we only want to do without the EXIF."""

from __future__ import annotations

import io
import os
from typing import Final

_COMPLAINT: Final = "exif payload"
_ITEM: Final = b"Exif"
_UNKNOWN: Final = b"free"
"""No type of item; readers pass over those that they do not know."""


def complains_of_exif(error: Exception) -> bool:
    """Whether that is why a decoder gave up."""
    return _COMPLAINT in str(error).lower()


def without_exif(file: io.BufferedReader) -> io.BytesIO:
    """A copy in which the EXIF is an item of no known type (ISO/IEC 14496-12, section 8.11.6)."""
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
