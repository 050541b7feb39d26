"""CRC32C as S3 writes it: base64 of four bytes, with `-N` behind it when it covers N parts' CRCs
instead of their bytes (COMPOSITE)."""

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
    """What the store says. `parts` is None for a CRC32C of the bytes themselves."""

    crc32c: int
    parts: int | None


def encoded(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(_CRC_BYTES, "big")).decode("ascii")


def decoded(text: str | None) -> StoredChecksum | None:
    """None for nothing, and for anything that is no CRC32C."""
    match = _TEXT.fullmatch(text or "")
    if match is None:
        return None
    try:
        crc = int.from_bytes(base64.b64decode(match[1], validate=True), "big")
    except binascii.Error:
        return None
    return StoredChecksum(crc, None if match[2] is None else int(match[2]))


def composite(crcs: Iterable[int]) -> StoredChecksum:
    """The COMPOSITE checksum of parts with these CRC32Cs."""
    whole = b"".join(crc.to_bytes(_CRC_BYTES, "big") for crc in crcs)
    return StoredChecksum(crc32c(whole), len(whole) // _CRC_BYTES)
