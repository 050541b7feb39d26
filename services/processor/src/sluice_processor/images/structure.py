"""Outermost layer of each image format, walked without decoding."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from sluice_processor.images.jpeg_markers import EOI, walk_markers
from sluice_processor.images.model import ImageFormat, ImageRefused, RefusalReason

_MAX_CHUNKS: Final = 1_000_000
"""Limit of PNG chunks or ISO boxes; real files have thousands."""
_BLOCK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Structure:
    """Facts from the outermost layer, which decoders report late or not at all.

    They are the number of frames (without decoding each), trailing data, and damage. Whether the
    damage affects the shown picture, only its decoder knows.
    """

    frames: int | None
    """Frames or pages; None where only the decoder knows."""
    end: int | None
    """Offset after the last byte that belongs to the picture; None where only a decoder knows."""
    size: tuple[int, int] | None = None
    """Width and height, for the format whose decoder allocates before it reports them (WebP)."""
    cut: bool = False
    """Whether the file ends inside one of its parts."""
    broken: bool = False
    """Whether a checksum is wrong, or other bytes stand where a part should begin."""

    @property
    def damaged(self) -> bool:
        """Whether the file violates its format."""
        return self.cut or self.broken


class _Cut(Exception):
    """The file ends inside a part."""


def walk(file: io.BufferedReader, image_format: ImageFormat, max_frames: int) -> Structure:
    """Walk the file from its beginning.

    Raise `ImageRefused` TOO_MANY_FRAMES, CORRUPT for a cycle of directories, and TRUNCATED or
    CORRUPT where the first picture does not even begin.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    walker = _WALKERS.get(image_format)
    try:
        return walker(file, size, max_frames) if walker else Structure(None, None)
    except _Cut:
        _refuse_truncated()


def refuse_frames(max_frames: int) -> NoReturn:
    """Raise `ImageRefused` TOO_MANY_FRAMES."""
    raise ImageRefused(
        RefusalReason.TOO_MANY_FRAMES, f"The file has more than {max_frames} frames."
    )


def _read_exact(file: io.BufferedReader, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise _Cut
    return data


def _refuse_truncated() -> NoReturn:
    raise ImageRefused(RefusalReason.TRUNCATED, "The file ends before the picture does.")


def _refuse_corrupt() -> NoReturn:
    raise ImageRefused(RefusalReason.CORRUPT, "The structure of the file is invalid.")


def _jpeg(file: io.BufferedReader, size: int, _max_frames: int) -> Structure:
    """Search only for an end marker: the decoder takes trailing bytes for data."""
    file.seek(max(0, size - len(EOI)))
    ended = file.read() == EOI or walk_markers(file).ended
    return Structure(None, None, cut=not ended)


def _png(file: io.BufferedReader, size: int, max_frames: int) -> Structure:
    """Walk chunks of length, name, data and CRC to IEND (PNG, third edition, section 5)."""
    frames = 1
    broken = False
    at = 8
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return Structure(frames, None, cut=True, broken=broken)
        length, name = struct.unpack(">I4s", head)
        end = at + 12 + length
        if name == b"acTL":
            frames = max(1, int.from_bytes(file.read(4), "big"))
            if frames > max_frames:
                refuse_frames(max_frames)
            file.seek(at + 8)
        if end > size:
            return Structure(frames, None, cut=True, broken=broken)
        broken = _checksum(file, name, length) != file.read(4) or broken
        at = end
        if name == b"IEND":
            return Structure(frames, at, broken=broken)
    _refuse_corrupt()


def _checksum(file: io.BufferedReader, name: bytes, length: int) -> bytes:
    """Read the data of a chunk and return its CRC."""
    checksum = zlib.crc32(name)
    while length > 0:
        block = _read_exact(file, min(length, _BLOCK_BYTES))
        checksum = zlib.crc32(block, checksum)
        length -= len(block)
    return checksum.to_bytes(4, "big")


def _gif(file: io.BufferedReader, _size: int, max_frames: int) -> Structure:
    """Walk screen, colour table and blocks to the trailer (GIF89a, section 16 on)."""
    file.seek(6)
    _skip_colours(file, _read_exact(file, 7)[4])
    frames = 0
    while True:
        try:
            match _read_exact(file, 1):
                case b"\x2c":
                    if frames == max_frames:
                        refuse_frames(max_frames)
                    _skip_colours(file, _read_exact(file, 9)[8])
                    _read_exact(file, 1)
                    _skip_blocks(file)
                    frames += 1
                case b"\x21":
                    _read_exact(file, 1)
                    _skip_blocks(file)
                case b"\x3b":
                    return Structure(max(1, frames), file.tell())
                case b"\x00":
                    continue  # some encoders pad with zeros, which decoders skip
                case _ if frames == 0:
                    _refuse_corrupt()
                case _:
                    return Structure(frames, file.tell() - 1, broken=True)
        except _Cut:
            # Only the decoder knows how many bytes of the first frame it needs.
            return Structure(max(1, frames), None, cut=True)


def _skip_colours(file: io.BufferedReader, flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << ((flags & 7) + 1), os.SEEK_CUR)


def _skip_blocks(file: io.BufferedReader) -> None:
    while length := _read_exact(file, 1)[0]:
        file.seek(length, os.SEEK_CUR)


def _webp(file: io.BufferedReader, size: int, _max_frames: int) -> Structure:
    """Read RIFF header and first chunk; the decoder counts the frames by its index."""
    file.seek(4)
    length = int.from_bytes(_read_exact(file, 4), "little")
    end = 8 + length + length % 2
    cut = 8 + length > size
    file.seek(12)
    screen = _webp_size(_read_exact(file, 18))
    return Structure(None, None if cut else min(end, size), screen, cut=cut)


def _webp_size(head: bytes) -> tuple[int, int]:
    """Return the size in the first chunk (RFC 9649, sections 2.5 to 2.7; RFC 6386, section 9.1)."""
    name, data = head[:4], head[8:]
    if name == b"VP8X":
        sides = data[4:7], data[7:10]
        return 1 + int.from_bytes(sides[0], "little"), 1 + int.from_bytes(sides[1], "little")
    if name == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if name == b"VP8 ":
        width, height = struct.unpack("<HH", data[6:10])
        return width & 0x3FFF, height & 0x3FFF
    _refuse_corrupt()


def _iso(file: io.BufferedReader, size: int, _max_frames: int) -> Structure:
    """Walk the boxes in sequence (ISO/IEC 14496-12, section 4.2)."""
    at = 0
    for _ in range(_MAX_CHUNKS):
        if at == size:
            return Structure(None, None)
        file.seek(at)
        try:
            length = int.from_bytes(_read_exact(file, 8)[:4], "big")
            if length == 1:
                length = int.from_bytes(_read_exact(file, 8), "big")
        except _Cut:
            return Structure(None, None, cut=True)
        if length == 0:  # the last box extends to the end of the file
            return Structure(None, None)
        if length < 8:
            return Structure(None, None, broken=True)
        at += length
        if at > size:
            return Structure(None, None, cut=True)
    _refuse_corrupt()


def _tiff(file: io.BufferedReader, size: int, max_frames: int) -> Structure:
    """Walk directories, each with the offset of the next (TIFF 6.0, section 2)."""
    order = "<" if _read_exact(file, 4)[:2] == b"II" else ">"
    seen: set[int] = set()
    at = struct.unpack(f"{order}I", _read_exact(file, 4))[0]
    while at:
        if at in seen:
            _refuse_corrupt()
        if len(seen) == max_frames:
            refuse_frames(max_frames)
        try:
            file.seek(at)
            entries = struct.unpack(f"{order}H", _read_exact(file, 2))[0]
            file.seek(12 * entries, os.SEEK_CUR)
            following = struct.unpack(f"{order}I", _read_exact(file, 4))[0]
        except _Cut:
            return Structure(max(1, len(seen)), None, cut=True)
        seen.add(at)
        at = following
    return Structure(max(1, len(seen)), None)


_WALKERS: Final[dict[ImageFormat, Callable[[io.BufferedReader, int, int], Structure]]] = {
    ImageFormat.JPEG: _jpeg,
    ImageFormat.PNG: _png,
    ImageFormat.GIF: _gif,
    ImageFormat.WEBP: _webp,
    ImageFormat.HEIC: _iso,
    ImageFormat.AVIF: _iso,
    ImageFormat.TIFF: _tiff,
}
