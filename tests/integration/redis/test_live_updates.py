"""Live updates when Redis is emptied, restarted or holds foreign keys, and what they leave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from sluice_backends.redis import keys
from sluice_backends.redis.client.connection import RedisClients, open_redis
from sluice_backends.redis.live.updates import RedisLiveUpdates
from sluice_backends.redis.options import RedisOptions
from sluice_core.errors import Unavailable
from support.live_updates import ANN, CAPACITY, photo_update, wait_for_photo
from support.redis_server import OPERATION_SECONDS, RedisServer, shared_server
from support.waiting import until


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of the test's own, since it is stopped."""
    with RedisServer() as started:
        yield started


@asynccontextmanager
async def live_updates(
    server: RedisServer, **options: float
) -> AsyncIterator[tuple[RedisLiveUpdates, RedisClients]]:
    redis = RedisOptions(server.url, operation_timeout_seconds=OPERATION_SECONDS)
    async with open_redis(redis) as clients:
        updates = RedisLiveUpdates(clients, CAPACITY, **options)
        async with updates.running():
            yield updates, clients


async def test_emptied_redis_makes_readers_take_a_snapshot() -> None:
    """The new log's floor is above all old cursors, so nobody misses an update unnoticed."""
    server = shared_server()
    server.flush()
    async with live_updates(server) as (updates, _), updates.listen(ANN) as listening:
        await updates.publish(ANN, [photo_update("old")])
        await wait_for_photo(listening, photo_update("old"))
        cursor = listening.log.last
        server.flush()
        await updates.publish(ANN, [photo_update("new")])
        await wait_for_photo(listening, photo_update("new"))
        assert listening.log.after(cursor) is None
        assert listening.log.find("old") is None


async def test_evicted_state_does_not_leave_half_a_log() -> None:
    server = shared_server()
    server.flush()
    async with live_updates(server) as (updates, clients), updates.listen(ANN) as listening:
        await updates.publish(ANN, [photo_update("old")])
        await wait_for_photo(listening, photo_update("old"))
        state = keys.live_log(ANN)[2]
        await clients.execute(state, "DEL", state)
        await updates.publish(ANN, [photo_update("new")])
        await wait_for_photo(listening, photo_update("new"))
        assert await updates.latest(ANN, ["old"]) == [None]


async def test_listeners_go_on_after_redis_has_restarted(server: RedisServer) -> None:
    async with live_updates(server) as (updates, _), updates.listen(ANN) as listening:
        await updates.publish(ANN, [photo_update("before")])
        await wait_for_photo(listening, photo_update("before"))
        cursor = listening.log.last
        server.kill()
        with pytest.raises(Unavailable):
            await updates.publish(ANN, [photo_update("lost")])
        server.start()
        await updates.publish(ANN, [photo_update("after")])
        await wait_for_photo(listening, photo_update("after"))
        assert listening.log.after(cursor) is None


async def test_listening_without_redis_is_refused(server: RedisServer) -> None:
    async with live_updates(server) as (updates, _):
        server.kill()
        with pytest.raises(Unavailable):
            async with updates.listen(ANN):
                pytest.fail("entered without a log")
        server.start()
        async with updates.listen(ANN) as listening:
            await updates.publish(ANN, [photo_update("p1")])
            await wait_for_photo(listening, photo_update("p1"))


async def test_keys_have_an_end() -> None:
    server = shared_server()
    server.flush()
    async with live_updates(server, retention_seconds=600.0) as (updates, _):
        await updates.publish(ANN, [photo_update("p1")])
        with server.client() as client:
            lives = {key: client.pttl(key) for key in server.all_keys()}
        assert set(lives) == set(keys.live_log(ANN))
        assert all(0 < life <= 600_000 for life in lives.values()), lives


@pytest.mark.rule(27)
async def test_polls_make_up_for_lost_messages() -> None:
    """A change without its message, as after a failover that lost it, is read by the next poll."""
    server = shared_server()
    server.flush()
    async with (
        live_updates(server, poll_seconds=0.05) as (updates, clients),
        updates.listen(ANN) as listening,
    ):
        entries, order, state = keys.live_log(ANN)
        last = listening.log.last + 1
        packed = f"{last}\t1\tQUEUED\t0\t1000\tjob-1\tp1\t"
        await clients.execute(entries, "HSET", entries, "p1", packed)
        await clients.execute(order, "ZADD", order, last, "p1")
        await clients.execute(state, "HSET", state, "last", last)
        await wait_for_photo(listening, photo_update("p1"))


async def test_last_listener_leaves_no_channel_behind() -> None:
    server = shared_server()
    server.flush()
    async with live_updates(server) as (updates, _):
        async with updates.listen(ANN):
            pass
        channel = keys.live_channel(ANN)
        with server.client() as client:
            await until(lambda: client.pubsub_numsub(channel)[0][1] == 0, what="no subscriber")
