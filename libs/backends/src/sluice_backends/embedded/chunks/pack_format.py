"""File format of packs: small chunks one after the other in one file."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sluice_core.uploads.checksums import crc32c

# A record has this layout, with integers in network order:
#
#   magic 4 | length of the token 1 | size of the chunk 4 | CRC32C of the head 4 | token | bytes
#
# The head is everything before the chunk's bytes; its CRC32C is computed with zeros in its place.
# The bytes have no checksum here, because the ledger has the chunk's (rule 2).

SUFFIX = ".pack"
"""The dot distinguishes a pack from a chunk file, whose name is a token."""

_MAGIC = b"SLP1"
_FIXED = struct.Struct("!4sBII")
_READ_AHEAD_BYTES = 64 * 1024


class Record(NamedTuple):
    """Location of a chunk's bytes in its pack."""

    token: str
    offset: int
    size: int


def head(token: str, size: int) -> bytes:
    """Return the head of a record."""
    name = token.encode("ascii")
    crc = crc32c(_FIXED.pack(_MAGIC, len(name), size, 0) + name)
    return _FIXED.pack(_MAGIC, len(name), size, crc) + name


def records(path: Path) -> Iterator[Record]:
    """Yield the complete records of a pack from the first one; none without a file. Blocks.

    Stop at the first torn or invalid record. No complete record can follow it: a pack is never
    appended to after the process that wrote it has died.
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
