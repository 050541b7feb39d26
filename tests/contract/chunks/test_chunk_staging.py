"""Contract of chunk stores: a chunk before, at and after its seal."""

from __future__ import annotations

import asyncio

import pytest

from sluice_core.errors import AlreadyExists, InvalidArgument
from sluice_core.ports import ChunkOffer, ChunkStore
from sluice_core.uploads.ids import new_token
from sluice_core.uploads.model import MIB
from support.chunk_stores import UPLOAD, all_leftovers, assert_gone, keep, read, ref_of


@pytest.mark.rule(1)
@pytest.mark.parametrize("size", [10, MIB])
async def test_leaving_without_seal_discards_the_bytes(store: ChunkStore, size: int) -> None:
    token = new_token()
    async with store.stage(ChunkOffer(UPLOAD, 0, 0, token)) as staged:
        await staged.append(b"x" * size)
    await assert_gone(store, UPLOAD, ref_of(b"x" * size, token))
    assert await all_leftovers(store) == set()


@pytest.mark.parametrize("size", [10, MIB])
async def test_a_sender_cancelled_in_mid_chunk_leaves_nothing(store: ChunkStore, size: int) -> None:
    token = new_token()
    begun = asyncio.Event()

    async def send() -> None:
        async with store.stage(ChunkOffer(UPLOAD, 0, 0, token)) as staged:
            while True:
                await staged.append(b"x" * size)
                begun.set()
                await asyncio.sleep(0)

    sender = asyncio.create_task(send())
    await begun.wait()
    sender.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sender
    assert await all_leftovers(store) == set()


@pytest.mark.rule(1)
async def test_an_error_after_seal_keeps_the_bytes(store: ChunkStore) -> None:
    # The ledger may have accepted the chunk although its answer was lost.
    token = new_token()

    async def send() -> None:
        async with store.stage(ChunkOffer(UPLOAD, 0, 0, token)) as staged:
            await staged.append(b"kept")
            await staged.seal()
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await send()
    assert await read(store, UPLOAD, ref_of(b"kept", token)) == b"kept"


@pytest.mark.rule(1)
async def test_a_chunk_is_not_readable_before_it_is_sealed(store: ChunkStore) -> None:
    token = new_token()
    async with store.stage(ChunkOffer(UPLOAD, 0, 0, token)) as staged:
        await staged.append(b"early")
        await assert_gone(store, UPLOAD, ref_of(b"early", token))
        await staged.seal()


@pytest.mark.rule(1)
@pytest.mark.parametrize("size", [10, MIB])
async def test_a_token_is_used_once(store: ChunkStore, size: int) -> None:
    chunk = await keep(store, UPLOAD, b"1" * size)
    with pytest.raises(AlreadyExists) as caught:
        await keep(store, UPLOAD, b"2" * size, token=chunk.token)
    assert caught.value.reason == "TOKEN_IN_USE"
    assert await read(store, UPLOAD, chunk) == b"1" * size


async def test_a_staged_chunk_knows_its_token(any_store: ChunkStore) -> None:
    async with any_store.stage(ChunkOffer(UPLOAD, 0, 0, "abc")) as staged:
        assert staged.token == "abc"


@pytest.mark.parametrize("bad", ["", "..", "a/b", "a:b", "a\n", "{a}", "x" * 129])
async def test_id_that_could_escape_its_directory_is_rejected(
    any_store: ChunkStore, bad: str
) -> None:
    for upload_id, token in ((bad, "token"), (UPLOAD, bad)):
        with pytest.raises(InvalidArgument) as caught:
            async with any_store.stage(ChunkOffer(upload_id, 0, 0, token)):
                pytest.fail("staged under a bad id")
        assert caught.value.reason == "BAD_ID"
