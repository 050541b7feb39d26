"""Checksums of an object that a client put straight into the store."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from sluice_core.errors import Aborted
from sluice_core.objects.body import closing
from sluice_core.ports.object_store import ObjectInfo, ObjectStore
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_core.uploads.model import Integrity


@dataclass(frozen=True, slots=True)
class Checksums:
    """Checksums of an object; the SHA-256 is known if its bytes were read."""

    crc32c: int
    sha256: bytes | None


def known_checksums(info: ObjectInfo, integrity: Integrity) -> Checksums | None:
    """Return the checksums that the store has; None if the bytes have to be read."""
    if info.crc32c is None or integrity is Integrity.SHA256_BEFORE_VISIBLE:
        return None
    return Checksums(info.crc32c, None)


async def read_checksums(objects: ObjectStore, info: ObjectInfo) -> Checksums:
    """Return the checksums of the bytes.

    Raise `Aborted` OBJECT_CHANGED if the object was replaced meanwhile.
    """
    sha256, crc, size = hashlib.sha256(), EMPTY_CRC32C, 0
    async with closing(objects.read(info.ref, 0, info.size)) as blocks:
        async for block in blocks:
            await asyncio.to_thread(sha256.update, block)
            crc = crc32c(block, crc)
            size += len(block)
    again = await objects.head(info.ref)
    differs = info.crc32c not in (None, crc) or size != info.size
    if again is None or again.etag != info.etag or differs:
        raise Aborted("OBJECT_CHANGED", "The object was replaced while it was read; try again.")
    return Checksums(crc, sha256.digest())
