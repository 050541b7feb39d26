"""Checksums of stored objects, computed by reading them back."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from sluice_core.errors import Unavailable
from sluice_core.objects.body import closing
from sluice_core.ports.object_store import ObjectStore
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_core.uploads.model import ObjectRef


@dataclass(frozen=True, slots=True)
class Digest:
    """Size and checksums of an object's bytes."""

    size: int
    crc32c: int
    sha256: bytes


async def digest_object(
    objects: ObjectStore,
    ref: ObjectRef,
    size: int,
    *,
    read_timeout_seconds: float,
    bytes_per_second: int | None = None,
) -> Digest:
    """Read `size` bytes of an object and hash them off the event loop.

    `bytes_per_second` limits the rate. Raise what the store raises, and `Unavailable`
    STORE_UNAVAILABLE when a block does not arrive within `read_timeout_seconds`.
    """
    loop = asyncio.get_running_loop()
    sha256 = hashlib.sha256()
    crc = EMPTY_CRC32C
    seen = 0
    began = loop.time()
    async with closing(objects.read(ref, 0, size)) as blocks:
        while True:
            try:
                async with asyncio.timeout(read_timeout_seconds):
                    block = await anext(blocks, None)
            except TimeoutError:
                raise Unavailable(
                    "STORE_UNAVAILABLE", "The object store stopped sending; try again later."
                ) from None
            if block is None:
                break
            await asyncio.to_thread(sha256.update, block)
            crc = crc32c(block, crc)
            seen += len(block)
            if bytes_per_second is not None:
                await asyncio.sleep(max(0.0, began + seen / bytes_per_second - loop.time()))
    return Digest(seen, crc, sha256.digest())
