"""Token buckets on Redis: one round trip, keys that expire, a clock that is set back."""

from __future__ import annotations

from sluice_backends.redis.client.connection import RedisClients
from sluice_backends.redis.client.scripts import load_script
from sluice_backends.redis.rates.buckets import RedisRateBuckets
from sluice_core.rates.model import Charge
from support.lua_globals import globals_of
from support.rate_buckets import age_buckets, bucket_of, per_hour
from support.redis_server import RedisServer

SLOW = per_hour(3600, burst=60)


async def test_take_is_one_command(clients: RedisClients, server: RedisServer) -> None:
    """Charges of several buckets too; only the first one also sends the script."""
    buckets = RedisRateBuckets(clients)
    charges = [Charge(bucket_of(SLOW), 1, 2), Charge(bucket_of(SLOW, subject="s"), 1, 2)]
    await buckets.take(charges, 0.0)
    with server.client() as client:
        client.config_resetstat()
        for _ in range(5):
            await buckets.take(charges, 0.0)
        sent = client.info("commandstats")
    from_clients = {name for name in sent if name not in ("cmdstat_get", "cmdstat_set")}
    assert sent["cmdstat_evalsha"]["calls"] == 5
    assert from_clients <= {"cmdstat_evalsha", "cmdstat_time", "cmdstat_config|resetstat"}


async def test_bucket_expires_when_it_is_full(clients: RedisClients, server: RedisServer) -> None:
    await RedisRateBuckets(clients).take([Charge(bucket_of(SLOW), 30, 30)], 0.0)
    with server.client() as client:
        (key,) = server.all_keys()
        assert 0 < client.pttl(key) <= 30_001


async def test_refusal_writes_nothing(clients: RedisClients, server: RedisServer) -> None:
    buckets, charge = RedisRateBuckets(clients), Charge(bucket_of(SLOW), 60, 60)
    await buckets.take([charge], 0.0)
    with server.client() as client:
        (key,) = server.all_keys()
        before = client.get(key)
        assert not (await buckets.take([charge], 0.0)).granted
        assert client.get(key) == before


async def test_clock_set_back_refuses_no_longer(clients: RedisClients, server: RedisServer) -> None:
    """After a step of an hour the bucket is as full as before it."""
    buckets = RedisRateBuckets(clients)
    await buckets.take([Charge(bucket_of(SLOW), 30, 30)], 0.0)
    age_buckets([server], -3600.0)
    assert (await buckets.take([Charge(bucket_of(SLOW), 29, 29)], 0.0)).granted
    refused = await buckets.take([Charge(bucket_of(SLOW), 30, 30)], 0.0)
    assert not refused.granted
    assert refused.wait_seconds < 31


def test_script_has_no_undefined_names(server: RedisServer) -> None:
    script = load_script("sluice_backends.redis.rates", "take_rates")
    with server.client() as client:
        used = globals_of(client, script.source)
    assert used == {"redis", "KEYS", "ARGV", "ipairs", "tonumber", "string", "math"}
