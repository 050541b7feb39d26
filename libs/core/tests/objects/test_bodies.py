"""Bodies: the same bytes on every pass, verified and hashed on their way."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_backends.memory.chunks import MemoryChunkStore
from sluice_core.errors import DataLoss
from sluice_core.objects.body import BytesBody, ChunksBody, HashingBody, verified
from sluice_core.ports import ChunkOffer
from sluice_core.ports.object_store import Body
from sluice_core.uploads.checksums import combined_crc32c, crc32c
from sluice_core.uploads.ids import new_token
from sluice_core.uploads.model import MAX_BLOCK_BYTES, MIB, ChunkRef

UPLOAD = "n1-u"


async def all_of(body: Body) -> bytes:
    blocks = [block async for block in body.blocks()]
    assert all(0 < len(block) <= MAX_BLOCK_BYTES for block in blocks)
    return b"".join(blocks)


async def chunks_body(store: MemoryChunkStore, contents: list[bytes]) -> ChunksBody:
    refs: list[ChunkRef] = []
    for number, data in enumerate(contents):
        token = new_token()
        async with store.stage(ChunkOffer(UPLOAD, 0, 0, token)) as staged:
            for start in range(0, len(data), MAX_BLOCK_BYTES):
                await staged.append(data[start : start + MAX_BLOCK_BYTES])
            await staged.seal()
        refs.append(ChunkRef(number, len(data), crc32c(data), token))

    async def in_order() -> AsyncIterator[ChunkRef]:
        for ref in refs:
            yield ref

    return ChunksBody(
        store,
        UPLOAD,
        in_order,
        size=sum(ref.size for ref in refs),
        crc32c=combined_crc32c((ref.crc32c, ref.size) for ref in refs),
    )


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, 3 * MIB])
async def test_bytes_body_yields_the_same_blocks_on_every_pass(size: int) -> None:
    body = BytesBody(b"x" * size)
    assert (body.size, body.crc32c) == (size, crc32c(b"x" * size))
    for _ in range(2):
        assert await all_of(body) == b"x" * size


@settings(max_examples=30, deadline=None)
@given(contents=st.lists(st.binary(max_size=50), max_size=6))
async def test_chunks_body_yields_chunks_in_order_on_every_pass(contents: list[bytes]) -> None:
    body = await chunks_body(MemoryChunkStore(), contents)
    whole = b"".join(contents)
    assert (body.size, body.crc32c) == (len(whole), crc32c(whole))
    for _ in range(2):
        assert b"".join([block async for block in verified(body)]) == whole


async def test_missing_chunk_raises_data_loss() -> None:
    store = MemoryChunkStore()
    body = await chunks_body(store, [b"a" * 10, b"b" * 10])
    await store.drop_upload(UPLOAD)
    with pytest.raises(DataLoss) as caught:
        await all_of(body)
    assert caught.value.reason == "CHUNK_MISSING"


# ------------------------------------------------------------------ hashing


@pytest.mark.parametrize(
    "contents",
    [[], [b"small"], [b"a" * MIB * 3], [b"tiny", b"b" * MIB, b"tiny", b"c" * 40_000]],
    ids=["empty", "small", "large", "mixed"],
)
async def test_sha256_is_known_after_a_complete_pass(contents: list[bytes]) -> None:
    body = HashingBody(await chunks_body(MemoryChunkStore(), contents))
    assert body.sha256 is None
    for _ in range(2):
        data = await all_of(body)
        assert data == b"".join(contents)
        assert body.sha256 == hashlib.sha256(data).digest()


async def test_new_pass_resets_the_sha256_until_its_end() -> None:
    body = HashingBody(BytesBody(b"x" * MIB * 3))
    await all_of(body)
    blocks = cast(Any, body.blocks())
    await anext(blocks)
    assert body.sha256 is None
    await blocks.aclose()
    assert body.sha256 is None
    await all_of(body)
    assert body.sha256 == hashlib.sha256(b"x" * MIB * 3).digest()


async def test_hashing_body_has_the_claims_of_its_source() -> None:
    source = BytesBody(b"claims")
    body = HashingBody(source)
    assert (body.size, body.crc32c) == (source.size, source.crc32c)


async def test_leaving_early_closes_the_source_at_once() -> None:
    closed = False

    class Source(BytesBody):
        async def blocks(self) -> AsyncIterator[bytes]:
            nonlocal closed
            try:
                async for block in super().blocks():
                    yield block
            finally:
                closed = True

    blocks = verified(HashingBody(Source(b"x" * MIB * 3)))
    await anext(blocks)
    await blocks.aclose()
    assert closed
