"""Chunk store on Redis: keys while a chunk is received, and after."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_backends.redis import keys
from sluice_backends.redis.chunks.store import RedisChunkStore
from sluice_backends.redis.client.connection import RedisClients, open_redis
from sluice_backends.redis.client.link import Link
from sluice_backends.redis.options import RedisOptions
from sluice_core.errors import (
    Aborted,
    AlreadyExists,
    DataLoss,
    ResourceExhausted,
    SluiceError,
    Unavailable,
)
from sluice_core.ports import ChunkOffer, StagedChunk
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import MIB, ChunkRef
from support.redis_chunks import publish
from support.redis_server import RedisServer, shared_server
from support.waiting import until

UPLOAD = "n1-upload"
STAGING = keys.staging(UPLOAD, "t0")

SECONDS = 20.0
"""Generous limit for every wait, also on a loaded machine."""


@pytest.fixture
def store(clients: RedisClients) -> RedisChunkStore:
    return RedisChunkStore(clients)


async def send(
    store: RedisChunkStore, *blocks: bytes, token: str = "t0", number: int = 0, size: int = 0
) -> ChunkRef:
    async with store.stage(ChunkOffer(UPLOAD, number, size, token)) as staged:
        for block in blocks:
            await staged.append(block)
        await staged.seal()
    content = b"".join(blocks)
    return ChunkRef(number, len(content), crc32c(content), token)


async def arrived(server: RedisServer) -> None:
    """Wait until Redis has the staging list, since pushes are acknowledged asynchronously."""

    async def is_there() -> bool:
        return STAGING in server.all_keys()

    await until(is_there, SECONDS, "the staging list")


async def finish(staged: StagedChunk, *blocks: bytes) -> None:
    """Push blocks and wait until every push is acknowledged."""
    for block in blocks:
        await staged.append(block)
    await staged.seal()


async def read(store: RedisChunkStore, *chunks: ChunkRef) -> bytes:
    return b"".join([block async for block in store.read_many(UPLOAD, chunks)])


# ------------------------------------------------------------------ the staging list


@pytest.mark.parametrize("offered", [True, False], ids=["size offered", "size unknown"])
@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, MIB) | st.just(MIB), max_size=6))
async def test_blocks_are_pushed_in_one_size(offered: bool, sizes: list[int]) -> None:
    server = shared_server()
    server.flush()
    blocks = [bytes([n + 1]) * size for n, size in enumerate(sizes)]
    content = b"".join(blocks)
    async with open_redis(RedisOptions(server.url)) as clients:
        await send(RedisChunkStore(clients), *blocks, size=len(content) if offered else 0)
        stored = await clients.execute(STAGING, "LRANGE", STAGING, 0, -1)
    assert len(stored) == keys.staged_blocks(len(content))
    assert all(len(block) == keys.STAGED_BLOCK_BYTES for block in stored[:-1])
    assert b"".join(stored) == content


async def test_last_block_of_the_offered_size_is_sent_at_once(
    store: RedisChunkStore, server: RedisServer
) -> None:
    # So that nothing remains to be sent between the last byte and the ledger's step.
    async with store.stage(ChunkOffer(UPLOAD, 0, 300, "t0")) as staged:
        await staged.append(b"x" * 100)
        assert server.all_keys() == []
        await staged.append(b"x" * 200)
        await arrived(server)


@pytest.mark.rule(1)
async def test_staging_list_expires_unless_it_grows(
    clients: RedisClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1000.0
    monkeypatch.setattr("sluice_backends.redis.chunks.staging.monotonic", lambda: clock)
    store = RedisChunkStore(clients, staging_seconds=40.0)

    async def is_renewed() -> bool:
        return 25_000 < int(await clients.execute(STAGING, "PTTL", STAGING)) <= 40_000

    async with store.stage(ChunkOffer(UPLOAD, 0, 0, "t0")) as staged:
        for _ in range(6):
            await staged.append(b"x" * MIB)
            await until(is_renewed, SECONDS, "a new time to live")
            # Fifteen seconds pass.
            assert await clients.execute(STAGING, "PEXPIRE", STAGING, 25_000) == 1
            clock += 15.0
        await staged.seal()
    assert 0 < await clients.execute(STAGING, "PTTL", STAGING) <= 25_000


@pytest.mark.rule(1)
async def test_expired_staging_list_is_removed(clients: RedisClients, server: RedisServer) -> None:
    await send(RedisChunkStore(clients, staging_seconds=0.4), b"x" * MIB)

    async def is_gone() -> bool:
        return server.all_keys() == []

    await until(is_gone, SECONDS, "the staging list ends")


@pytest.mark.rule(1)
async def test_lost_list_is_not_recreated_partially(
    store: RedisChunkStore, clients: RedisClients, server: RedisServer
) -> None:
    async with store.stage(ChunkOffer(UPLOAD, 0, 0, "t0")) as staged:
        await staged.append(b"x" * MIB)
        await arrived(server)
        await clients.execute(STAGING, "UNLINK", STAGING)
        with pytest.raises(Aborted) as caught:
            await finish(staged, b"x" * MIB)
    assert caught.value.reason == "STAGING_DROPPED"
    assert server.all_keys() == []


@pytest.mark.rule(1)
async def test_senders_sharing_a_token_are_detected(
    clients: RedisClients, server: RedisServer
) -> None:
    # Two stores, like two processes that do not know each other.
    offer = ChunkOffer(UPLOAD, 0, 0, "t0")
    first, second = RedisChunkStore(clients), RedisChunkStore(clients)
    async with first.stage(offer) as one:
        await one.append(b"1" * MIB)
        await arrived(server)
        with pytest.raises(AlreadyExists) as caught:
            await _send_one(second, offer, b"2" * MIB)
        assert caught.value.reason == "TOKEN_IN_USE"
        with pytest.raises(AlreadyExists):
            await finish(one, b"1" * MIB)


async def _send_one(store: RedisChunkStore, offer: ChunkOffer, block: bytes) -> None:
    async with store.stage(offer) as staged:
        await finish(staged, block)


async def test_cancelled_sender_leaves_no_key(store: RedisChunkStore, server: RedisServer) -> None:
    started = asyncio.Event()

    async def keep_sending() -> None:
        async with store.stage(ChunkOffer(UPLOAD, 0, 0, "t0")) as staged:
            while True:
                await staged.append(b"x" * MIB)
                started.set()

    for delay in range(10):
        started.clear()
        sender = asyncio.create_task(keep_sending())
        await started.wait()
        await asyncio.sleep(0.0003 * delay)
        sender.cancel()
        with suppress(asyncio.CancelledError):
            await sender
        await asyncio.sleep(0.02)
        assert server.all_keys() == []


async def test_staging_list_always_has_a_time_to_live(
    store: RedisChunkStore, clients: RedisClients
) -> None:
    await send(store, b"x" * MIB)
    assert 0 < await clients.execute(STAGING, "TTL", STAGING) <= 600


# ------------------------------------------------------------------ faults


@pytest.mark.rule(1)
async def test_push_without_a_reply_is_the_last() -> None:
    with RedisServer() as server:
        async with open_redis(RedisOptions(server.url, operation_timeout_seconds=1.0)) as clients:
            store = RedisChunkStore(clients)
            with suppress(Unavailable):
                async with store.stage(ChunkOffer(UPLOAD, 0, 0, "t0")) as staged:
                    await staged.append(b"1" * MIB)
                    await arrived(server)
                    server.pause()
                    with pytest.raises(Unavailable):
                        await finish(staged, b"2" * MIB)
                    server.go_on()
                    # The outcome is unknown: a retry could duplicate the block.
                    with pytest.raises(Unavailable):
                        await staged.append(b"2" * MIB)
                    with pytest.raises(Unavailable):
                        await staged.seal()
            assert server.all_keys() == []


async def test_sender_leaves_in_time_after_redis_died() -> None:
    with RedisServer() as server:
        async with open_redis(RedisOptions(server.url)) as clients:
            store = RedisChunkStore(clients)
            offer = ChunkOffer(UPLOAD, 0, 0, "t0")
            async with asyncio.timeout(SECONDS), store.stage(offer) as staged:
                await staged.append(b"1" * MIB)
                await arrived(server)
                server.kill()
                with pytest.raises(Unavailable):
                    await finish(staged, b"2" * MIB)
            server.start()
            chunk = await send(store, b"again" * 1000)
            await publish(clients, UPLOAD, "t0", 0)
            assert await read(store, chunk) == b"again" * 1000


@pytest.mark.rule(1)
async def test_seal_waits_for_every_reply() -> None:
    with RedisServer() as server:
        async with open_redis(RedisOptions(server.url, operation_timeout_seconds=1.0)) as clients:
            store = RedisChunkStore(clients)
            with suppress(Unavailable):
                async with store.stage(ChunkOffer(UPLOAD, 0, 2 * MIB, "t0")) as staged:
                    await staged.append(b"1" * MIB)
                    await arrived(server)
                    server.pause()
                    try:
                        await staged.append(b"2" * MIB)  # still in flight
                        with pytest.raises(Unavailable):
                            await staged.seal()
                    finally:
                        server.go_on()
            assert server.all_keys() == []


async def test_silent_sender_holds_no_connection(server: RedisServer) -> None:
    options = RedisOptions(server.url, max_connections=1, operation_timeout_seconds=SECONDS)
    async with open_redis(options) as clients:
        store = RedisChunkStore(clients)
        async with store.stage(ChunkOffer(UPLOAD, 0, 3 * MIB, "t0")) as staged:
            for _ in range(3):
                await staged.append(b"x" * MIB)
                assert await clients.execute("k", "PING") == b"PONG"
            await staged.seal()


async def test_full_redis_refuses_and_accepted_chunks_stay_readable() -> None:
    with RedisServer("--maxmemory", "10mb") as server:
        async with open_redis(RedisOptions(server.url)) as clients:
            store = RedisChunkStore(clients)
            kept = await send(store, b"k" * MIB, token="kept", number=7)
            await publish(clients, UPLOAD, "kept", 7)
            with pytest.raises(ResourceExhausted) as caught:
                await send(store, *[b"x" * MIB] * 20)
            assert caught.value.reason == "REDIS_FULL"
            assert await read(store, kept) == b"k" * MIB
            # The refused chunk's blocks were removed, so there is room again.
            assert STAGING not in server.all_keys()


@pytest.mark.rule(8)
async def test_flipped_bit_is_detected_as_damage(
    store: RedisChunkStore, clients: RedisClients
) -> None:
    chunk = await send(store, b"x" * MIB, b"y" * 10)
    await publish(clients, UPLOAD, "t0", 0)
    name = keys.chunk(UPLOAD, 0)
    await clients.execute(name, "LSET", name, 1, b"y" * 9 + b"z")
    with pytest.raises(DataLoss) as caught:
        await read(store, chunk)
    assert caught.value.reason == "CHUNK_DAMAGED"


@pytest.mark.parametrize("change", [("RPOP",), ("RPUSH", b"more"), ("LPUSH", b"more")])
async def test_wrong_list_length_is_detected_as_damage(
    store: RedisChunkStore, clients: RedisClients, change: tuple[str | bytes, ...]
) -> None:
    chunk = await send(store, *[b"x" * MIB] * 5)
    await publish(clients, UPLOAD, "t0", 0)
    name = keys.chunk(UPLOAD, 0)
    await clients.execute(name, change[0], name, *change[1:])
    with pytest.raises(DataLoss) as caught:
        await read(store, chunk)
    assert caught.value.reason == "CHUNK_DAMAGED"


# ------------------------------------------------------------------ reading and dropping


async def test_small_chunks_are_read_in_few_round_trips(
    store: RedisChunkStore, clients: RedisClients
) -> None:
    chunks = []
    for number in range(100):
        chunks.append(await send(store, b"%03d" % number, token=f"t{number}", number=number))
        await publish(clients, UPLOAD, f"t{number}", number)
    before = _reads(clients)
    assert await read(store, *chunks) == b"".join(b"%03d" % n for n in range(100))
    assert _reads(clients) - before == 1


def _reads(clients: RedisClients) -> float:
    labels = {"operation": "chunk_read"}
    registry = clients.metrics.registry
    return registry.get_sample_value("sluice_redis_seconds_count", labels) or 0.0


async def test_large_chunk_is_read_in_bounded_replies(
    store: RedisChunkStore, clients: RedisClients
) -> None:
    chunk = await send(store, *[b"x" * MIB] * 8)
    await publish(clients, UPLOAD, "t0", 0)
    before = _reads(clients)
    assert len(await read(store, chunk)) == 8 * MIB
    assert _reads(clients) - before == 4


async def test_dropping_thousands_of_tokens_leaves_no_key(
    store: RedisChunkStore, clients: RedisClients, server: RedisServer
) -> None:
    names = [f"t{number}" for number in range(1200)]
    for number, token in enumerate(names):
        name = keys.staging(UPLOAD, token)
        await clients.pipeline(name, [("RPUSH", name, b"x")], operation="test")
        await publish(clients, UPLOAD, token, number)
    await store.drop(UPLOAD, names[:600])
    assert len(server.all_keys()) == 601
    await store.drop_upload(UPLOAD)
    assert server.all_keys() == []


async def test_dropping_an_upload_removes_its_staged_chunks(
    store: RedisChunkStore, server: RedisServer
) -> None:
    with suppress(SluiceError):
        async with store.stage(ChunkOffer(UPLOAD, 0, 0, "t0")) as staged:
            await staged.append(b"x" * MIB)
            await store.drop_upload(UPLOAD)
            assert server.all_keys() == []
            await staged.seal()
    assert server.all_keys() == []


async def test_push_waiting_for_a_connection_stops_at_removal(
    store: RedisChunkStore,
    clients: RedisClients,
    server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert clients.only_server is not None
    acquire = clients.only_server.acquire
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def acquire_late() -> Link:
        if not waiting.is_set():
            waiting.set()
            await go_on.wait()
        return await acquire()

    monkeypatch.setattr(clients.only_server, "acquire", acquire_late)
    async with store.stage(ChunkOffer(UPLOAD, 0, 0, "t0")) as staged:
        pushing = asyncio.create_task(staged.append(b"x" * MIB))
        await waiting.wait()
        await store.drop_upload(UPLOAD)
        go_on.set()
        with pytest.raises(SluiceError):
            await pushing
        assert server.all_keys() == []
