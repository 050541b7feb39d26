"""CRC32C of blocks, and of wholes from the CRCs of their pieces, without a second pass.

awscrt computes it at tens of GB/s, takes memoryviews and can combine; a part's checksum is the
combination of its chunks', the object's the combination of its parts', whatever the order in
which they arrived.
"""

from __future__ import annotations

from collections.abc import Iterable

from awscrt.checksums import combine_crc32c
from awscrt.checksums import crc32c as _crc32c

EMPTY_CRC32C = 0
"""CRC32C of no bytes."""


def crc32c(block: bytes | memoryview, previous: int = EMPTY_CRC32C) -> int:
    """CRC32C of `block`, or of what `previous` covers followed by `block`."""
    return int(_crc32c(block, previous))


def combined_crc32c(pieces: Iterable[tuple[int, int]], previous: int = EMPTY_CRC32C) -> int:
    """CRC32C of what `previous` covers followed by pieces given as (crc32c, size), in order."""
    total = previous
    for crc, size in pieces:
        total = combine_crc32c(total, crc, size)
    return total
