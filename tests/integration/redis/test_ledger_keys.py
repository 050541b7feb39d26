"""Keys of the Redis ledger: chunk bytes, etags, times to live (rules 1, 2, 8, 16, 24, 28)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from sluice_backends.redis import keys
from sluice_backends.redis.chunks.store import RedisChunkStore
from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.ledger.ledger import RedisLedger, open_redis_ledger
from sluice_backends.redis.monitoring import open_redis_monitor
from sluice_backends.redis.options import RedisOptions
from sluice_core.errors import Aborted, AlreadyExists, ResourceExhausted
from sluice_core.ports import ChunkOffer, PartClaim, Verdict
from sluice_core.uploads.checksums import crc32c
from support.ledgers import DAY, HOUR, PART_BYTES, ROOMY, Driver, FakeClock
from support.redis_ledgers import stage
from support.redis_server import RedisServer

BLOCK = keys.STAGED_BLOCK_BYTES
LARGE = replace(ROOMY, max_chunk_bytes=4 * BLOCK, budget_bytes=100 * BLOCK)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def ledger(
    server: RedisServer, clients: RedisClients, clock: FakeClock
) -> AsyncIterator[RedisLedger]:
    redis = RedisOptions(server.url)
    async with (
        open_redis_monitor(clients, redis) as monitor,
        open_redis_ledger(clients, LARGE, redis, monitor, clock=clock) as opened,
    ):
        yield opened


@pytest.fixture
def store(clients: RedisClients) -> RedisChunkStore:
    return RedisChunkStore(clients)


@pytest.fixture
def driver(ledger: RedisLedger, clock: FakeClock) -> Driver:
    return Driver(ledger, clock)


async def stage_bytes(store: RedisChunkStore, offer: ChunkOffer, content: bytes) -> None:
    async with store.stage(offer) as staged:
        for at in range(0, len(content), BLOCK):
            await staged.append(content[at : at + BLOCK])
        await staged.seal()


async def send(
    driver: Driver,
    store: RedisChunkStore,
    upload_id: str,
    number: int,
    content: bytes,
    *,
    force: bool = False,
) -> ChunkOffer:
    """Stage and accept a chunk."""
    offer = driver.offer(upload_id, number, len(content), force=force)
    assert (await driver.ledger.admit_chunk(offer)).granted
    await stage_bytes(store, offer, content)
    await driver.ledger.accept_chunk(offer, crc32c(content))
    return offer


def keys_of(server: RedisServer, upload_id: str) -> set[str]:
    """Return the names of an upload's keys after `upload:{ID}:`."""
    prefix = keys.upload(upload_id)
    return {name.removeprefix(prefix) for name in server.all_keys() if name.startswith(prefix)}


# ------------------------------------------------------------------ rule 1: chunk bytes


@pytest.mark.rule(1)
async def test_rule_1_accept_moves_staged_bytes_in_one_step(
    server: RedisServer, driver: Driver, store: RedisChunkStore
) -> None:
    upload_id = await driver.create()
    content = bytes(2 * BLOCK) + b"tail"
    offer = driver.offer(upload_id, 0, len(content))
    await stage_bytes(store, offer, content)
    assert f"staging:{offer.token}" in keys_of(server, upload_id)
    accepted = await driver.ledger.accept_chunk(offer, crc32c(content))
    names = keys_of(server, upload_id)
    assert "chunks:0" in names
    assert f"staging:{offer.token}" not in names
    assert b"".join([b async for b in store.read(upload_id, accepted.chunk)]) == content
    with server.client() as client:
        assert client.ttl(keys.chunk(upload_id, 0)) == -1


async def test_empty_chunk_has_no_list(
    server: RedisServer, driver: Driver, store: RedisChunkStore
) -> None:
    upload_id = await driver.create()
    offer = driver.offer(upload_id, 0, 0)
    accepted = await driver.ledger.accept_chunk(offer, 0)
    assert "chunks:0" not in keys_of(server, upload_id)
    assert [b async for b in store.read(upload_id, accepted.chunk)] == []


@pytest.mark.rule(1)
@pytest.mark.parametrize("blocks", [0, 1, 3])
async def test_rule_1_incomplete_chunk_is_not_accepted(
    clients: RedisClients, server: RedisServer, driver: Driver, blocks: int
) -> None:
    """Blocks are lost by a failover or their time to live, or are duplicated."""
    upload_id = await driver.create()
    before = await driver.ledger.get(upload_id)
    offer = driver.offer(upload_id, 0, BLOCK + 1)
    assert (await driver.ledger.admit_chunk(offer)).granted
    staging = keys.staging(upload_id, offer.token)
    for _ in range(blocks):
        await clients.execute(staging, "RPUSH", staging, b"x")
    with pytest.raises(Aborted) as refused:
        await driver.ledger.accept_chunk(offer, 1)
    assert refused.value.reason == "STAGING_LOST"
    assert await driver.ledger.get(upload_id) == before
    assert f"staging:{offer.token}" not in keys_of(server, upload_id)
    assert (await driver.ledger.backlog()).reserved_bytes == 0


@pytest.mark.rule(1)
async def test_rule_1_duplicate_or_conflict_leaves_no_bytes(
    server: RedisServer, driver: Driver, store: RedisChunkStore
) -> None:
    upload_id = await driver.create()
    await send(driver, store, upload_id, 0, b"abc")
    for content in (b"abc", b"xyz"):
        offer = driver.offer(upload_id, 0, 3)
        await stage_bytes(store, offer, content)
        if content == b"abc":
            duplicate = await driver.ledger.accept_chunk(offer, crc32c(content))
            assert duplicate.verdict is Verdict.DUPLICATE
        else:
            with pytest.raises(AlreadyExists):
                await driver.ledger.accept_chunk(offer, crc32c(content))
        assert f"staging:{offer.token}" not in keys_of(server, upload_id)


@pytest.mark.rule(2)
async def test_rule_2_dropping_a_replaced_token_keeps_new_bytes(
    driver: Driver, store: RedisChunkStore
) -> None:
    upload_id = await driver.create()
    old = await send(driver, store, upload_id, 0, b"abc")
    await send(driver, store, upload_id, 0, b"xyz", force=True)
    await store.drop(upload_id, [old.token])
    (chunk,) = (await driver.ledger.accept_chunk(old, crc32c(b"xyz")),)
    assert b"".join([b async for b in store.read(upload_id, chunk.chunk)]) == b"xyz"


@pytest.mark.rule(8)
async def test_rule_8_rejected_chunk_loses_its_bytes(
    server: RedisServer, driver: Driver, store: RedisChunkStore
) -> None:
    upload_id = await driver.create()
    old = await send(driver, store, upload_id, 0, b"x" * PART_BYTES)
    await driver.ledger.reject_chunk(await driver.claim(upload_id, 1), 0)
    assert "chunks:0" not in keys_of(server, upload_id)
    await send(driver, store, upload_id, 0, b"x" * PART_BYTES)
    await store.drop(upload_id, [old.token])  # by a late worker
    assert "chunks:0" in keys_of(server, upload_id)


async def test_state_is_readable_with_redis_cli(
    server: RedisServer, driver: Driver, store: RedisChunkStore
) -> None:
    upload_id = await driver.create()
    await send(driver, store, upload_id, 0, b"abc")
    with server.client() as client:
        state = client.hgetall(keys.state(upload_id))
        assert isinstance(state, dict)
        assert (state[b"status"], state[b"received_bytes"]) == (b"UPLOADING", b"3")
        received = client.hget(keys.received(upload_id), "0")
        assert str(received).startswith("b'3:")


# ------------------------------------------------------------------ rule 16: one etag per part


@pytest.mark.rule(16)
async def test_rule_16_parts_with_equal_etags_keep_own_members(
    server: RedisServer, driver: Driver, store: RedisChunkStore
) -> None:
    upload_id = await driver.create()
    for number in (0, 1):
        await send(driver, store, upload_id, number, b"x" * PART_BYTES)
        claim = await driver.claim(upload_id, number + 1)
        record = replace(await driver.record_of(claim), etag='"same:etag-2"')
        for _ in range(2):
            await driver.ledger.record_part(claim, record)
    with server.client() as client:
        assert client.zcard(keys.etags(upload_id)) == 2
    stored = await driver.ledger.stored_parts(upload_id, 0, 10)
    assert [(part.number, part.etag) for part in stored] == [
        (1, '"same:etag-2"'),
        (2, '"same:etag-2"'),
    ]


# ------------------------------------------------------------------ rule 24: times to live


@pytest.mark.rule(24)
async def test_rule_24_keys_expire_only_after_all_work_is_done(
    server: RedisServer, driver: Driver, store: RedisChunkStore
) -> None:
    upload_id = await driver.create()
    await send(driver, store, upload_id, 0, b"abc")

    def lives_for() -> set[int]:
        with server.client() as client:
            names = [keys.upload(upload_id) + name for name in keys_of(server, upload_id)]
            return {int(str(client.ttl(name))) for name in names}

    await driver.ledger.abort(upload_id)
    await driver.ledger.cleanup_done(upload_id)
    driver.clock.advance(HOUR)
    await driver.ledger.cleanup_done(upload_id)
    await store.drop_upload(upload_id)
    assert lives_for() == {-1}
    await driver.ledger.events_published(upload_id, 10)
    assert lives_for() == {int(DAY)}  # a day after its end, and an hour for the sweeper


@pytest.mark.rule(24)
async def test_rule_24_purged_upload_leaves_no_key(
    server: RedisServer, driver: Driver, store: RedisChunkStore
) -> None:
    upload_id = await driver.create()
    await send(driver, store, upload_id, 0, b"abc")
    await driver.ledger.admit_chunk(driver.offer(upload_id, 1, 3))
    await driver.ledger.abort(upload_id)
    await driver.ledger.events_published(upload_id, 10)
    for _ in range(2):
        await store.drop_upload(upload_id)
        await driver.ledger.cleanup_done(upload_id)
        driver.clock.advance(DAY)
    assert await driver.ledger.purge_due(10) == 1
    assert await driver.ledger.backlog() == replace(
        await driver.ledger.backlog(), queued_bytes=0, reserved_bytes=0, open_uploads=0
    )
    assert server.all_keys() == [keys.NONCE]


async def test_expired_keys_are_removed_from_the_indexes(
    server: RedisServer, driver: Driver
) -> None:
    upload_id = await driver.create()
    await driver.ledger.abort(upload_id)
    await driver.ledger.events_published(upload_id, 10)
    for _ in range(2):
        await driver.ledger.cleanup_done(upload_id)
        driver.clock.advance(DAY)
    with server.client() as client:
        client.delete(*(keys.upload(upload_id) + name for name in keys_of(server, upload_id)))
    assert await driver.ledger.purge_due(10) == 0
    assert (await driver.ledger.list_uploads("acme", frozenset(), 10, "")).uploads == ()
    assert server.all_keys() == [keys.NONCE]


# ------------------------------------------------------------------ full memory


async def test_full_redis_runs_steps_that_free_memory(
    server: RedisServer, clients: RedisClients, driver: Driver, store: RedisChunkStore
) -> None:
    upload_id, other = await driver.create(), await driver.create()
    await send(driver, store, upload_id, 0, b"x" * PART_BYTES)
    claim = await driver.claim(upload_id, 1)
    record = await driver.record_of(claim)
    with server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(ResourceExhausted) as refused:
                await driver.create()
            assert refused.value.reason == "REDIS_FULL"
            await driver.ledger.extend_claim(claim, 15)
            await driver.ledger.record_part(claim, record)
            await driver.ledger.abort(other)
        finally:
            client.config_set("maxmemory", 0)
    assert (await driver.ledger.backlog()).queued_bytes == 0
    assert (await driver.ledger.backlog()).open_uploads == 1


async def test_high_memory_admits_only_chunks_of_the_needed_part(
    server: RedisServer, clients: RedisClients, clock: FakeClock
) -> None:
    redis = RedisOptions(server.url)
    async with (
        open_redis_monitor(clients, redis, 3600.0) as monitor,  # checks on request only
        open_redis_ledger(clients, LARGE, redis, monitor, clock=clock) as ledger,
    ):
        driver = Driver(ledger, clock)
        upload_id = await driver.create(chunk_size=8)
        with server.client() as client:
            used = int(client.info("memory")["used_memory"])
            client.config_set("maxmemory", used + used // 20)
            await monitor.check()
            client.config_set("maxmemory", 0)
        refused = await driver.admit(upload_id, 5, 8)
        assert (refused.reason, refused.needed_number) == ("BUDGET_FULL", 0)
        assert (await driver.admit(upload_id, 0, 8)).granted
        with pytest.raises(ResourceExhausted):
            await driver.create()
        await monitor.check()
        assert (await driver.admit(upload_id, 5, 8)).granted


# ------------------------------------------------------------------ rule 28: emptied


@pytest.mark.rule(28)
async def test_rule_28_claim_of_an_emptied_redis_is_fenced(
    server: RedisServer, clients: RedisClients, clock: FakeClock
) -> None:
    redis = RedisOptions(server.url)
    async with (
        open_redis_monitor(clients, redis) as monitor,
        open_redis_ledger(clients, LARGE, redis, monitor, clock=clock) as ledger,
    ):
        driver = Driver(ledger, clock)

        async def claimed() -> PartClaim:
            """Return the first claim of a new upload."""
            await ledger.create(new)
            offer = driver.offer(new.upload_id, 0, PART_BYTES)
            await stage(clients, offer)
            await ledger.accept_chunk(offer, 1)
            return await driver.claim(new.upload_id, 1)

        new = driver.new()
        old = await claimed()
        server.flush()
        await monitor.check()
        again = await claimed()
        assert old.fence.counter == again.fence.counter
        with pytest.raises(Aborted) as fenced:
            await ledger.extend_claim(old, 15)
        assert fenced.value.reason == "FENCED"
        await ledger.extend_claim(again, 15)


@pytest.mark.rule(22)
async def test_undecodable_event_blocks_no_other_upload(
    driver: Driver, clients: RedisClients
) -> None:
    """A later release may have written it; it is retried and never dropped."""
    stuck, other = await driver.create(), await driver.create()
    events = keys.events(stuck)
    entry = b'{"v":1,"type":"UploadTeleported","sequence":1,"at":"1"}'
    await clients.execute(events, "LSET", events, 0, entry)
    assert [event.upload_id for event in await driver.ledger.pending_events(10)] == [other]
    driver.clock.advance(61)
    assert [event.upload_id for event in await driver.ledger.pending_events(10)] == [other]
    assert await clients.execute(events, "LRANGE", events, 0, -1) == [entry]
