"""Lenient walk over JPEG markers (ITU-T T.81, annex B), for files that a decoder refuses."""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass, field
from typing import Final

EOI: Final = b"\xff\xd9"
"""End of image."""
_MARKER: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""A marker inside entropy-coded data: no stuffed byte, no fill byte, no restart."""
_BLOCK_BYTES: Final = 1024 * 1024
_SOI, _SOS, _TEM = 0xD8, 0xDA, 0x01
_STANDALONE: Final = frozenset({_SOI, _TEM, *range(0xD0, 0xD8)})
_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""SOF0 to SOF15, without DHT, JPG and DAC."""
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_FIRST_OF_SEGMENTS: Final = 0xC0
"""Lower markers are reserved and never part of the picture."""
_ADOBE, _EXIF, _ICC, _JFIF = 0xEE, 0xE1, 0xE2, 0xE0
_NEEDED_METADATA: Final = {
    _JFIF: (b"JFIF\0", 16),
    _EXIF: (b"Exif\0\0", 8),
    _ICC: (b"ICC_PROFILE\0", 16),
    _ADOBE: (b"Adobe", 14),
}
"""APP0 to APP15 segments that affect how the picture is shown: prefix and minimum length."""
_COEFFICIENTS: Final = 64


@dataclass(slots=True)
class JpegMarkers:
    """The first picture in the file.

    `pieces` are the segments and scans that the picture needs, in order and without EOI.
    """

    pieces: list[tuple[int, int]] = field(default_factory=list)
    ended: bool = False
    """Whether there is an EOI."""
    _progressive: bool = False
    _precision: dict[int, list[int | None]] = field(default_factory=dict)
    """Per component: missing low bits of each coefficient; None means all of them."""

    @property
    def has_every_scan(self) -> bool:
        """Whether every coefficient has a scan, down to its last bit."""
        return bool(self._precision) and all(
            bits == 0 for found in self._precision.values() for bits in found
        )

    def note_frame(self, marker: int, body: bytes) -> None:
        """Record the components of a frame header (section B.2.2)."""
        self._progressive = marker in _PROGRESSIVE
        identifiers = body[6::3][: body[5]] if len(body) > 5 else b""
        self._precision = {one: [None] * _COEFFICIENTS for one in identifiers}

    def note_scan(self, body: bytes) -> None:
        """Record the coefficients of a scan header (section B.2.3)."""
        count = body[0] if body else 0
        if len(body) < 4 + 2 * count:
            return
        first, last, bits = body[-3], body[-2], body[-1] & 0x0F
        if not self._progressive:
            first, last, bits = 0, _COEFFICIENTS - 1, 0
        for identifier in body[1 : 1 + 2 * count : 2]:
            for each in range(first, min(last, _COEFFICIENTS - 1) + 1):
                if identifier in self._precision:
                    self._precision[identifier][each] = bits


def walk_markers(file: io.BufferedReader) -> JpegMarkers:
    """Walk from the beginning to the first EOI, or to the end of what is readable."""
    size = file.seek(0, os.SEEK_END)
    found = JpegMarkers(pieces=[(0, 2)])
    at = 2
    while at + 2 <= size:
        file.seek(at)
        lead, marker = file.read(2)
        if lead != 0xFF or marker in (0x00, 0xFF):
            at += 1  # fill bytes, or junk between segments: decoders skip it
            continue
        if marker == EOI[1]:
            found.ended = True
            break
        if marker in _STANDALONE:
            at += 2
            continue
        if marker < _FIRST_OF_SEGMENTS:
            break
        length = int.from_bytes(file.read(2), "big")
        end = at + 2 + length
        if length < 2 or end > size:
            break
        body = file.read(length - 2)
        if marker == _SOS:
            found.note_scan(body)
            end = _end_of_scan(file, end, size)
        elif marker in _FRAMES:
            found.note_frame(marker, body)
        if _is_needed(marker, body):
            found.pieces.append((at, end))
        at = end
    return found


def _is_needed(marker: int, body: bytes) -> bool:
    if marker == 0xFE or 0xE0 <= marker <= 0xEF:
        begins, least = _NEEDED_METADATA.get(marker, (b"", 0))
        return least > 0 and len(body) + 2 >= least and body.startswith(begins)
    return True


def _end_of_scan(file: io.BufferedReader, at: int, size: int) -> int:
    """Return where entropy-coded data ends: at the next marker, or at the end of the file."""
    while at < size:
        file.seek(at)
        block = file.read(_BLOCK_BYTES)
        marker = _MARKER.search(block)
        if marker is not None:
            return at + marker.start()
        if at + len(block) >= size:
            break
        at += len(block) - 1
    return size
