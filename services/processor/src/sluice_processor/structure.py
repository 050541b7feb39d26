"""The outermost layer of each format, walked without decoding anything.

It tells what the decoders do not say or say late: that a file ends before its picture does, how
many frames there are (without visiting them all), and that something else hangs behind.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from sluice_processor.model import ImageFormat, ImageRefused, RefusalReason

_MAX_CHUNKS: Final = 1_000_000
"""Of a PNG or boxes of an ISO file; real ones have thousands."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What the outermost layer says."""

    frames: int | None
    """Frames or pages; None where only the decoder knows."""
    end: int | None
    """Offset after the last byte that belongs to the picture; None where only a decoder knows."""
    size: tuple[int, int] | None = None
    """Width and height, of the format whose decoder takes memory before it tells them."""


def walk(file: io.BufferedReader, image_format: ImageFormat, max_frames: int) -> Structure:
    """Walk over the file from its beginning.

    Raises `ImageRefused` TRUNCATED, TOO_MANY_FRAMES or CORRUPT.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    walker = _WALKERS.get(image_format)
    return walker(file, size, max_frames) if walker else Structure(None, None)


def refuse_frames(max_frames: int) -> NoReturn:
    raise ImageRefused(
        RefusalReason.TOO_MANY_FRAMES, f"The file has more than {max_frames} frames."
    )


def _exactly(file: io.BufferedReader, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        _refuse_truncated()
    return data


def _refuse_truncated() -> NoReturn:
    raise ImageRefused(RefusalReason.TRUNCATED, "The file ends before the picture does.")


def _refuse_corrupt() -> NoReturn:
    raise ImageRefused(RefusalReason.CORRUPT, "The file's structure makes no sense.")


def _png(file: io.BufferedReader, size: int, max_frames: int) -> Structure:
    """Length, name, data, CRC; from the signature to IEND (PNG, third edition, section 5)."""
    frames = 1
    at = 8
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        length, name = struct.unpack(">I4s", _exactly(file, 8))
        at += 12 + length
        if at > size:
            _refuse_truncated()
        if name == b"acTL":
            frames = max(1, int.from_bytes(file.read(4), "big"))
            if frames > max_frames:
                refuse_frames(max_frames)
        if name == b"IEND":
            return Structure(frames, at)
    _refuse_corrupt()


def _gif(file: io.BufferedReader, _size: int, max_frames: int) -> Structure:
    """Screen, colour table, then blocks up to the trailer (GIF89a, section 16 on)."""
    file.seek(6)
    _skip_colours(file, _exactly(file, 7)[4])
    frames = 0
    while True:
        match _exactly(file, 1):
            case b"\x2c":
                frames += 1
                if frames > max_frames:
                    refuse_frames(max_frames)
                _skip_colours(file, _exactly(file, 9)[8])
                _exactly(file, 1)
                _skip_blocks(file)
            case b"\x21":
                _exactly(file, 1)
                _skip_blocks(file)
            case b"\x3b":
                return Structure(max(1, frames), file.tell())
            case b"\x00":
                continue  # some encoders pad with zeros; decoders go over them
            case _:
                _refuse_corrupt()


def _skip_colours(file: io.BufferedReader, flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << ((flags & 7) + 1), os.SEEK_CUR)


def _skip_blocks(file: io.BufferedReader) -> None:
    while length := _exactly(file, 1)[0]:
        file.seek(length, os.SEEK_CUR)


def _webp(file: io.BufferedReader, size: int, _max_frames: int) -> Structure:
    """A RIFF file tells its length; the decoder counts frames by its index."""
    file.seek(4)
    length = int.from_bytes(_exactly(file, 4), "little")
    end = 8 + length + length % 2
    if 8 + length > size:
        _refuse_truncated()
    file.seek(12)
    return Structure(None, min(end, size), _webp_size(_exactly(file, 18)))


def _webp_size(head: bytes) -> tuple[int, int]:
    """Of the first chunk (RFC 9649, sections 2.5 to 2.7; RFC 6386, section 9.1)."""
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
    """Boxes, one after the other (ISO/IEC 14496-12, section 4.2)."""
    at = 0
    for _ in range(_MAX_CHUNKS):
        if at == size:
            return Structure(None, None)
        file.seek(at)
        length = int.from_bytes(_exactly(file, 8)[:4], "big")
        if length == 1:
            length = int.from_bytes(_exactly(file, 8), "big")
        elif length == 0:  # the last box, up to the end of the file
            return Structure(None, None)
        if length < 8:
            _refuse_corrupt()
        at += length
        if at > size:
            _refuse_truncated()
    _refuse_corrupt()


def _tiff(file: io.BufferedReader, size: int, max_frames: int) -> Structure:
    """Directories, each naming the offset of the next (TIFF 6.0, section 2)."""
    order = "<" if _exactly(file, 4)[:2] == b"II" else ">"
    seen: set[int] = set()
    while at := struct.unpack(f"{order}I", _exactly(file, 4))[0]:
        if at in seen:
            _refuse_corrupt()
        seen.add(at)
        if len(seen) > max_frames:
            refuse_frames(max_frames)
        if at >= size:
            _refuse_truncated()
        file.seek(at)
        entries = struct.unpack(f"{order}H", _exactly(file, 2))[0]
        file.seek(12 * entries, os.SEEK_CUR)
    return Structure(max(1, len(seen)), None)


_WALKERS: Final[dict[ImageFormat, Callable[[io.BufferedReader, int, int], Structure]]] = {
    ImageFormat.PNG: _png,
    ImageFormat.GIF: _gif,
    ImageFormat.WEBP: _webp,
    ImageFormat.HEIC: _iso,
    ImageFormat.AVIF: _iso,
    ImageFormat.TIFF: _tiff,
}
