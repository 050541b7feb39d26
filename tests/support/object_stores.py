"""Object stores of the contract. Add an adapter by one line in ALL or KEEPING.

KEEPING stores return bytes; the tests of names and completion run on the others too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice_backends.discard.objects import DiscardObjectStore
from sluice_backends.files.store import FileObjectStore
from sluice_backends.s3.store import open_s3_store
from sluice_core.errors import SluiceError
from sluice_core.objects.body import BytesBody
from sluice_core.ports.object_store import ObjectAttributes, ObjectStore, PartTag
from sluice_core.uploads.model import MAX_BLOCK_BYTES, MIN_PART_BYTES, ObjectRef
from support.s3_server import empty_bucket, s3_account

Factory = Callable[[Path], AbstractAsyncContextManager[ObjectStore]]


@asynccontextmanager
async def files(path: Path) -> AsyncIterator[ObjectStore]:
    async with FileObjectStore(path / "objects", fsync=False) as store:
        yield store


@asynccontextmanager
async def files_fsync(path: Path) -> AsyncIterator[ObjectStore]:
    async with FileObjectStore(path / "objects", fsync=True) as store:
        yield store


@asynccontextmanager
async def served_files(path: Path) -> AsyncIterator[ObjectStore]:
    """Open a store in files whose URLs the embedded listener serves."""
    from support.object_listener import running_listener  # only tests of URLs need a web server

    async with running_listener(path) as listener:
        yield listener.store


@asynccontextmanager
async def discard(path: Path) -> AsyncIterator[ObjectStore]:
    yield DiscardObjectStore()


@asynccontextmanager
async def s3(path: Path) -> AsyncIterator[ObjectStore]:
    account = s3_account()
    await empty_bucket(BUCKET)
    async with open_s3_store(account.options()) as store:
        yield store


FILES: list[Factory] = [files, files_fsync]
KEEPING: list[Factory] = [*FILES, s3]
ALL: list[Factory] = [*KEEPING, discard]
WITHOUT_URLS: list[Factory] = [files, discard]
SIGNING: list[Factory] = [served_files, s3]

BUCKET = "sluice"
REF = ObjectRef(BUCKET, "prefix/tenant/drive/node-1")
PLAIN = ObjectAttributes()
LARGE = b"L" * MIN_PART_BYTES


class Gated(BytesBody):
    """Body that pauses after its first block until the gate opens."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()

    async def blocks(self) -> AsyncIterator[bytes]:
        async for block in super().blocks():
            yield block
            self.begun.set()
            await self.gate.wait()


async def read(
    store: ObjectStore, ref: ObjectRef = REF, offset: int = 0, length: int = 1 << 40
) -> bytes:
    blocks = [block async for block in store.read(ref, offset, length)]
    assert all(0 < len(block) <= MAX_BLOCK_BYTES for block in blocks)
    return b"".join(blocks)


async def assert_rejected(call: Any, error: type[SluiceError], reason: str) -> None:
    with pytest.raises(error) as caught:
        await call
    assert caught.value.reason == reason


def same_parts(listed: Sequence[PartTag], stored: Sequence[PartTag]) -> bool:
    """Compare parts; a store may list no CRC32C, but never a wrong one."""
    known = [
        replace(tag, crc32c=None) if shown.crc32c is None else tag
        for shown, tag in zip(listed, stored, strict=True)
    ]
    return list(listed) == known


async def store_parts(store: ObjectStore, *contents: bytes) -> tuple[str, list[PartTag]]:
    multipart_id = await store.open_multipart(REF, PLAIN)
    tags = [
        await store.put_part(REF, multipart_id, number, BytesBody(content))
        for number, content in enumerate(contents, 1)
    ]
    return multipart_id, tags
