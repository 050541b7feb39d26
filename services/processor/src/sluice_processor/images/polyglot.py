"""Detection of files that are an image and another document at the same time."""

from __future__ import annotations

import io
import os
import re
import struct
from typing import Final

import filetype

from sluice_processor.images.model import ImageRefused, RefusalReason
from sluice_processor.images.structure import Structure

_PDF_WINDOW: Final = 1024
"""PDF readers search this many bytes for their header."""
_PDF_HEADER: Final = re.compile(rb"%PDF-\d\.\d[ \t]*[\r\n]")
"""The header is a line by itself (ISO 32000-2, section 7.5.2); a mention in a caption is not."""
_ZIP_END: Final = struct.Struct("<4s4H2IH")
_ZIP_MARK: Final = b"PK\x05\x06"
_ZIP_WINDOW: Final = _ZIP_END.size + 0xFFFF
"""End of central directory record and a comment of at most 64 KiB (APPNOTE, 4.3.16)."""
_BEHIND_BYTES: Final = 8192
_FOREIGN: Final = ("application/", "text/")


def refuse_polyglots(file: io.BufferedReader, structure: Structure) -> None:
    """Raise `ImageRefused` POLYGLOT for an image that another kind of reader would accept too.

    The video of a motion photo or a vendor's trailer behind a JPEG is common and harmless; an
    archive there is no accident. Markup inside a picture is allowed: a browser takes bytes for a
    page only if they begin as one (WHATWG MIME Sniffing, section 7.1), and these begin with the
    signature of a picture.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if _PDF_HEADER.search(file.read(_PDF_WINDOW)):
        _refuse("a PDF document")
    if _is_zip(file, size):
        _refuse("a ZIP archive")
    if structure.end is not None and structure.end < size:
        file.seek(structure.end)
        behind = filetype.guess(file.read(_BEHIND_BYTES))
        if behind is not None and behind.mime.startswith(_FOREIGN):
            _refuse(f"another file behind its end ({behind.mime})")


def _is_zip(file: io.BufferedReader, size: int) -> bool:
    file.seek(max(0, size - _ZIP_WINDOW))
    tail = file.read()
    start = size - len(tail)
    at = tail.rfind(_ZIP_MARK)
    while at >= 0:
        if at + _ZIP_END.size <= len(tail):
            _, disk, first_disk, _, _, length, offset, comment = _ZIP_END.unpack_from(tail, at)
            whole = at + _ZIP_END.size + comment == len(tail)
            if whole and disk == first_disk == 0 and offset + length <= start + at:
                return True
        at = tail.rfind(_ZIP_MARK, 0, at)
    return False


def _refuse(what: str) -> None:
    raise ImageRefused(RefusalReason.POLYGLOT, f"The image is at the same time {what}.")
