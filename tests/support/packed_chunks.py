"""Small chunks in a file chunk store: writing, reading, and the files that hold them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sluice_backends.embedded.chunks.store import FileChunkStore
from sluice_core.errors import DataLoss
from sluice_core.ports import ChunkOffer
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.ids import new_token
from sluice_core.uploads.model import ChunkRef

UPLOAD = "n1-upload"


async def keep(
    store: FileChunkStore, data: bytes, upload_id: str = UPLOAD, token: str = ""
) -> ChunkRef:
    token = token or new_token()
    async with store.stage(ChunkOffer(upload_id, 0, 0, token)) as staged:
        await staged.append(data)
        await staged.seal()
    return ChunkRef(0, len(data), crc32c(data), token)


async def keep_together(store: FileChunkStore, *contents: bytes) -> list[ChunkRef]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(keep(store, data)) for data in contents]
    return [task.result() for task in tasks]


async def read(store: FileChunkStore, *chunks: ChunkRef) -> bytes:
    return b"".join([block async for block in store.read_many(UPLOAD, chunks)])


async def reason(store: FileChunkStore, chunk: ChunkRef) -> str:
    with pytest.raises(DataLoss) as caught:
        await read(store, chunk)
    return caught.value.reason


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())
