"""Repair of damaged image files whose pixels are intact."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sluice_processor.images.jpeg_markers import EOI, walk_markers
from sluice_processor.images.model import ImageFormat
from sluice_processor.images.splicing import Piece, splice

MAX_PROFILE_BYTES: Final = 16 * 1024 * 1024
"""Limit of a colour profile; larger ones are left out."""
_TAIL_BYTES: Final = 512
_BLOCK_BYTES: Final = 64 * 1024
_COUNTED_ZEROS: Final = 4
_FEW_ZEROS: Final = 4
"""Zeros at the end of a scan that need no second test. More of them are either all data, or what
a disk substitutes for missing data."""
_PNG_NEEDED: Final = frozenset({b"IHDR", b"PLTE", b"IDAT", b"tRNS"})
_PNG_USED: Final = frozenset({b"iCCP", b"eXIf", b"gAMA"})
_MAX_CHUNKS: Final = 1_000_000
_MAX_BOX_BYTES: Final = 16 * 1024 * 1024
_METADATA: Final = {b"Exif": b"free", b"mime": b"free"}
"""Item types and their replacement, an unknown type that readers skip (ISO/IEC 14496-12,
8.11.6)."""
_SEQUENCE: Final = {b"avis": b"avif", b"msf1": b"mif1"}
"""Brands of image sequences, and the matching brands of still pictures."""
_WEBP_IMAGES: Final = frozenset({b"VP8 ", b"VP8L", b"ANMF"})
_WEBP_FLAGS: Final = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}
"""Bits of VP8X that announce a chunk (RFC 9649, section 2.7)."""


@dataclass(frozen=True, slots=True)
class RepairedFile:
    """A repaired file, with control files that show whether pixels are missing.

    `witness` is set where the decoder does not detect missing data. The two files differ only in
    the bytes behind the data of the picture, so that both decode to the same pixels exactly if no
    data is missing.
    """

    file: io.BufferedReader
    witness: io.BufferedReader | None = None
    counters: tuple[io.BufferedReader, ...] = ()
    """Files with less of the trailing zeros: if no pixel changes, the zeros are no data."""


def repair_candidates(file: io.BufferedReader, image_format: ImageFormat) -> Iterator[RepairedFile]:
    """Yield repaired versions of a damaged file, each with less of the original.

    Decoders refuse files for damage that no pixel depends on: a missing end, a wrong checksum of
    a text, a length beyond the end of the file. A repaired file has none of that. No pixels are
    added: where data of the picture is missing, the decoder reports it, or
    `RepairedFile.witness` shows it. Yield nothing where nothing can be repaired, or where the
    picture itself is cut.
    """
    repairer = _REPAIRERS.get(image_format)
    if repairer is not None:
        yield from repairer(file)


def _jpeg(file: io.BufferedReader) -> Iterator[RepairedFile]:
    found = walk_markers(file)
    pieces: list[Piece] = list(found.pieces)
    if found.ended:
        yield RepairedFile(splice(file, [*pieces, EOI]))
        return
    if not found.has_every_scan:
        return
    begin, end = found.pieces[-1]
    end, filler, zeros = _end_of_data(file, begin, end)
    pieces[-1] = (begin, end)

    def ending(kept: int, tail: bytes) -> io.BufferedReader:
        return splice(file, [*pieces, filler + bytes(kept), tail, EOI])

    tail, other = _tails()
    few = min(zeros, _FEW_ZEROS)
    for kept in sorted({0, few}):
        yield RepairedFile(ending(kept, tail), witness=ending(kept, other))
    if zeros > few:
        less = zeros - _COUNTED_ZEROS
        yield RepairedFile(
            ending(zeros, tail),
            witness=ending(zeros, other),
            counters=(ending(less, tail), ending(less, other)),
        )


def _end_of_data(file: io.BufferedReader, begin: int, end: int) -> tuple[int, bytes, int]:
    """Find the end of the data of the last scan.

    Returns:
        The end without trailing zeros and without the FF bytes of erased flash memory; the byte
        that must follow so that the last one begins no marker; the number of trailing zeros.
    """
    whole = end
    ended = _stripped(file, begin, end, b"\xff")
    if whole - ended > 1:  # a single FF may be data whose stuffed zero is cut off
        end = ended
    bare = _stripped(file, begin, end, b"\0")
    file.seek(max(begin, bare - 1))
    filler = b"\0" if file.read(1) == b"\xff" else b""
    return bare, filler, max(0, end - bare - len(filler))


def _stripped(file: io.BufferedReader, begin: int, end: int, filling: bytes) -> int:
    while end > begin:
        start = max(begin, end - _BLOCK_BYTES)
        file.seek(start)
        bare = file.read(end - start).rstrip(filling)
        if bare:
            return start + len(bare)
        end = start
    return end


def _tails() -> tuple[bytes, bytes]:
    """Return two tails that differ in every bit and contain no marker.

    Whichever bit of the picture is missing, they decode to different pixels.
    """
    chosen = random.Random(1).choices(range(1, 255), k=_TAIL_BYTES)
    return bytes(chosen), bytes(each ^ 0xFF for each in chosen)


def _png(file: io.BufferedReader) -> Iterator[RepairedFile]:
    """Keep the chunks that the first picture needs, with correct checksums; keep others only if
    they are whole and usable."""
    pieces: list[Piece] = [(0, 8)]
    for name, at, length, whole in _png_chunks(file):
        if name == b"IDAT":
            # The decoder does not verify the checksums of pixel data.
            pieces += [struct.pack(">I4s", length, name), (at + 8, at + 8 + length), bytes(4)]
            continue
        if name not in _PNG_NEEDED | _PNG_USED:
            continue
        file.seek(at + 8)
        data = file.read(length)
        if name in _PNG_USED and not (whole and _is_usable(name, data)):
            continue
        checksum = zlib.crc32(name + data)
        pieces.append(struct.pack(">I4s", len(data), name) + data + struct.pack(">I", checksum))
    pieces.append(struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND")))
    yield RepairedFile(splice(file, pieces))


def _png_chunks(file: io.BufferedReader) -> Iterator[tuple[bytes, int, int, bool]]:
    """Yield name, offset and available bytes of data, and whether the checksum is correct."""
    size = file.seek(0, os.SEEK_END)
    at = 8
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        length, name = struct.unpack(">I4s", head)
        there = min(length, size - at - 8)
        whole = False
        if name in _PNG_USED and there == length <= MAX_PROFILE_BYTES:
            data = file.read(length)
            whole = file.read(4) == struct.pack(">I", zlib.crc32(name + data))
        yield name, at, there, whole
        at += 12 + length


def _is_usable(name: bytes, data: bytes) -> bool:
    if name == b"gAMA":
        return len(data) == 4
    if name != b"iCCP":
        return True
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(data.partition(b"\0")[2][1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return False
    return not unpacking.unconsumed_tail


def _webp(file: io.BufferedReader) -> Iterator[RepairedFile]:
    """Keep the whole chunks, with a correct length; drop a cut chunk and all that follows."""
    size = file.seek(0, os.SEEK_END)
    at, names = 12, set[bytes]()
    chunks: list[Piece] = []
    header: tuple[int, bytes] | None = None
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        end = at + 8 + length
        if end > size or not name.isascii() or not name.strip().isalnum():
            break
        if name == b"VP8X":
            header = len(chunks), file.read(length)
        names.add(name)
        chunks.append((at, end))
        if length % 2:
            chunks.append(b"\0")
        at = end + length % 2
    if not names & _WEBP_IMAGES:
        return
    if header is not None:
        index, data = header
        missing = sum(bit for name, bit in _WEBP_FLAGS.items() if name not in names)
        flags = bytes([data[0] & ~missing]) if data else b""
        chunks[index] = struct.pack("<4sI", b"VP8X", len(data)) + flags + data[1:]
    length = 4 + sum(len(one) if isinstance(one, bytes) else one[1] - one[0] for one in chunks)
    yield RepairedFile(splice(file, [struct.pack("<4sI4s", b"RIFF", length, b"WEBP"), *chunks]))


def _iso(file: io.BufferedReader) -> Iterator[RepairedFile]:
    """Keep the outermost boxes up to the first that is invalid.

    A cut `mdat` is shortened to the end of the file; a decoder that needs more of it reports
    that. The next version has no EXIF and XMP, whose items may be what is cut. The last one also
    lacks the frames of a sequence, which leaves its still picture.
    """
    size = file.seek(0, os.SEEK_END)
    at = 0
    boxes: list[tuple[bytes, Piece]] = []
    while at + 8 <= size:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        header = 8
        if length == 1:
            length, header = int.from_bytes(file.read(8), "big"), 16
        end = size if length == 0 else at + length
        if not name.isascii() or not name.decode("ascii").isprintable() or end < at + header:
            break
        if end > size:
            if name == b"mdat":  # its content must keep its offset in the file
                boxes += [(name, _box_header(header, size - at)), (b"", (at + header, size))]
            break
        boxes.append((name, (at, end)))
        at = end
    names = {name for name, _ in boxes}
    if not names & {b"meta", b"moov"}:
        return
    yield RepairedFile(splice(file, [piece for _, piece in boxes]))
    if b"meta" not in names:
        return
    bare = [_changed(file, piece, _METADATA) if name == b"meta" else piece for name, piece in boxes]
    yield RepairedFile(splice(file, bare))
    if b"moov" in names:
        changes = {b"ftyp": _SEQUENCE, b"moov": {b"moov": b"free"}}
        still = [
            _changed(file, piece, changes.get(name, {}))
            for (name, _), piece in zip(boxes, bare, strict=True)
        ]
        yield RepairedFile(splice(file, still))


def _changed(file: io.BufferedReader, piece: Piece, changes: Mapping[bytes, bytes]) -> Piece:
    """Return a box with four-byte codes replaced; a very large box unchanged."""
    if not changes or (not isinstance(piece, bytes) and piece[1] - piece[0] > _MAX_BOX_BYTES):
        return piece
    if not isinstance(piece, bytes):
        file.seek(piece[0])
        piece = file.read(piece[1] - piece[0])
    for word, other in changes.items():
        piece = piece.replace(word, other)
    return piece


def _box_header(header: int, length: int) -> bytes:
    if header == 8:
        return struct.pack(">I4s", length, b"mdat")
    return struct.pack(">I4sQ", 1, b"mdat", length)


_REPAIRERS: Final[dict[ImageFormat, Callable[[io.BufferedReader], Iterator[RepairedFile]]]] = {
    ImageFormat.JPEG: _jpeg,
    ImageFormat.PNG: _png,
    ImageFormat.WEBP: _webp,
    ImageFormat.HEIC: _iso,
    ImageFormat.AVIF: _iso,
}
