"""CRC32C of blocks, and of a whole from the CRCs of its pieces without reading it again."""

from __future__ import annotations

from collections.abc import Iterable

from awscrt.checksums import combine_crc32c
from awscrt.checksums import crc32c as _crc32c

Block = bytes | bytearray | memoryview
EMPTY_CRC32C = 0


def crc32c(block: Block, previous: int = EMPTY_CRC32C) -> int:
    """CRC32C of `block`, or of what `previous` covers followed by `block`."""
    return int(_crc32c(block, previous))


def crc32c_of_blocks(blocks: Iterable[Block]) -> int:
    """CRC32C of the blocks put one after the other."""
    total = EMPTY_CRC32C
    for block in blocks:
        total = crc32c(block, total)
    return total


def combined_crc32c(pieces: Iterable[tuple[int, int]]) -> int:
    """CRC32C of the concatenation of pieces given as (crc32c, size), in order."""
    total = EMPTY_CRC32C
    for crc, size in pieces:
        total = int(combine_crc32c(total, crc, size))
    return total
