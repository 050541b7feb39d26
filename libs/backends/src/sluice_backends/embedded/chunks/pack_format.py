"""The layout of a pack: small chunks one after the other in one file.

A record is

    magic 4 | length of the token 1 | size of the chunk 4 | CRC32C of the head 4 | token | bytes

with integers in network order. The head is all before the chunk's bytes; its CRC32C is taken with
zeros in its own place. The bytes have no checksum here: the ledger knows the chunk's (rule 2).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sluice_core.uploads.checksums import crc32c

SUFFIX = ".pack"
"""With the dot no pack is named like a chunk's own file, whose name is a token."""

_MAGIC = b"SLP1"
_FIXED = struct.Struct("!4sBII")
_READ_AHEAD_BYTES = 64 * 1024


class Record(NamedTuple):
    """Where in its pack the bytes of a chunk lie."""

    token: str
    offset: int
    size: int


def head(token: str, size: int) -> bytes:
    """What precedes the bytes of a chunk."""
    name = token.encode("ascii")
    crc = crc32c(_FIXED.pack(_MAGIC, len(name), size, 0) + name)
    return _FIXED.pack(_MAGIC, len(name), size, crc) + name


def records(path: Path) -> Iterator[Record]:
    """The whole records of a pack, from the first one; nothing if there is no such file. Blocks.

    Ends before the first one that is torn or not a record: a process that died while it wrote
    never appends to that pack again, so nothing whole can follow.
    """
    try:
        file = path.open("rb", buffering=_READ_AHEAD_BYTES)
    except FileNotFoundError:
        return
    with file:
        end = os.fstat(file.fileno()).st_size
        at = 0
        while len(fixed := file.read(_FIXED.size)) == _FIXED.size:
            magic, length, size, _ = _FIXED.unpack(fixed)
            name = file.read(length)
            at += _FIXED.size + length
            if magic != _MAGIC or not name.isascii() or at + size > end:
                return
            token = name.decode("ascii")
            if head(token, size) != fixed + name:
                return
            yield Record(token, at, size)
            at += size
            file.seek(at)
