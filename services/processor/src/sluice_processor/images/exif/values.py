"""Conversion of EXIF field values to text and numbers; None for broken ones. Pure."""

from __future__ import annotations

import codecs
import math
import unicodedata
from typing import Any, Final

from PIL import TiffImagePlugin

_MAX_TEXT: Final = 128
_UTF8_TYPE: Final = 129
"""The field type of EXIF 3.0 (CIPA DC-008-2023, section 4.6.2) for text in UTF-8."""
_REPLACEMENT: Final = "\ufffd"


def accept_utf8_fields() -> None:
    """Make Pillow deliver fields of EXIF 3.0's UTF-8 type as bytes instead of skipping them."""
    TiffImagePlugin.ImageFileDirectory_v2._load_dispatch.setdefault(
        _UTF8_TYPE, (1, lambda _directory, data, _legacy: data)
    )


def first(value: Any) -> Any:
    """Return the first of several values; some cameras write more than one."""
    return value[0] if isinstance(value, tuple | list) and value else value


def text(value: Any) -> str | None:
    """Return clean text of at most `_MAX_TEXT` characters in NFC, or None.

    Control, format, surrogate, private and unassigned characters become blanks; blanks are
    collapsed. For the encoding see `decode_text`.
    """
    value = first(value)
    if isinstance(value, str):
        value = _raw(value[: 8 * _MAX_TEXT])
    if isinstance(value, bytes):
        value = decode_text(value.partition(b"\0")[0][: 8 * _MAX_TEXT])
    if not isinstance(value, str):
        return None
    value = value.partition("\0")[0]
    value = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in value)
    value = unicodedata.normalize("NFC", " ".join(value.split()))[:_MAX_TEXT].strip()
    return value or None


def _raw(value: str) -> str | bytes:
    """Undo Pillow's decoding, which treats every ASCII field as Latin-1."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value


def decode_text(data: bytes) -> str:
    """Decode a field of type ASCII: as UTF-8 if it is, else as Windows-1252.

    Latin-1 text is practically never valid UTF-8 by accident. UTF-8 that is cut in the middle of
    a character, or has single bad bytes, still counts as UTF-8. Exiftool and browsers (WHATWG
    Encoding, section 4.2) treat Latin-1 as Windows-1252.
    """
    # The last character may be cut: an incremental decoder omits an incomplete one.
    found = codecs.getincrementaldecoder("utf-8")("replace").decode(data)
    several_bytes = sum(ord(c) > 0x7F and c != _REPLACEMENT for c in found)
    bad = found.count(_REPLACEMENT)
    if several_bytes >= max(1, bad) or data.isascii():
        return found
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def number(
    value: Any, *, at_most: float, at_least: float = -math.inf, above: float = -math.inf
) -> float | None:
    """Return a finite number within the limits, with 9 digits, or None."""
    try:
        found = float(first(value))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    if not math.isfinite(found) or found > at_most or found < at_least or found <= above:
        return None
    return float(f"{found:.9g}")


def whole(value: Any, at_least: int, at_most: int) -> int | None:
    """Return a whole number within the limits, or None."""
    value = first(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if at_least <= value <= at_most else None
