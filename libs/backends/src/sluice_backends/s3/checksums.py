"""CRC32C in S3's notation: base64 of four bytes.

The suffix `-N` marks a checksum of the CRCs of N parts instead of their bytes (COMPOSITE).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass

from sluice_core.uploads.checksums import crc32c

_TEXT = re.compile(r"([A-Za-z0-9+/]{6}==)(?:-(\d+))?")
_CRC_BYTES = 4


@dataclass(frozen=True, slots=True)
class StoredChecksum:
    """Checksum reported by a store. `parts` is None for a CRC32C of the bytes themselves."""

    crc32c: int
    parts: int | None


def encode_crc32c(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(_CRC_BYTES, "big")).decode("ascii")


def decode_crc32c(text: str | None) -> StoredChecksum | None:
    """Return the checksum in `text`; None for None and for anything that is no CRC32C."""
    match = _TEXT.fullmatch(text or "")
    if match is None:
        return None
    try:
        crc = int.from_bytes(base64.b64decode(match[1], validate=True), "big")
    except binascii.Error:
        return None
    return StoredChecksum(crc, None if match[2] is None else int(match[2]))


def composite_checksum(crcs: Iterable[int]) -> StoredChecksum:
    """Return the COMPOSITE checksum of parts with these CRC32Cs."""
    whole = b"".join(crc.to_bytes(_CRC_BYTES, "big") for crc in crcs)
    return StoredChecksum(crc32c(whole), len(whole) // _CRC_BYTES)
