"""CRC32C of blocks, and of a concatenation from the CRCs of its pieces."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from typing import Any

Block = bytes | bytearray | memoryview
EMPTY_CRC32C = 0


@cache
def _library() -> Any:
    """Load the native library with the first checksum: listing nodes computes none."""
    return import_module("awscrt.checksums")


def crc32c(block: Block, previous: int = EMPTY_CRC32C) -> int:
    """Return the CRC32C of `block`, or of what `previous` covers followed by `block`."""
    return int(_library().crc32c(block, previous))


def crc32c_of_blocks(blocks: Iterable[Block]) -> int:
    """Return the CRC32C of the concatenated blocks."""
    total = EMPTY_CRC32C
    for block in blocks:
        total = crc32c(block, total)
    return total


def combined_crc32c(pieces: Iterable[tuple[int, int]]) -> int:
    """Return the CRC32C of concatenated pieces, given in order as (crc32c, size).

    Does not read the bytes again.
    """
    total = EMPTY_CRC32C
    for crc, size in pieces:
        total = int(_library().combine_crc32c(total, crc, size))
    return total
