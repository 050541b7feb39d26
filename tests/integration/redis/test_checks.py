"""Server requirements, nonce and monitor of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from redis import Redis
from structlog.testing import capture_logs

from sluice_backends.redis.checks import check_server
from sluice_backends.redis.client.connection import RedisClients, open_redis
from sluice_backends.redis.monitoring import (
    CONFIG_INTERVAL_SECONDS,
    RedisMonitor,
    open_redis_monitor,
)
from sluice_backends.redis.nonce import get_or_create_nonce
from sluice_backends.redis.options import RedisOptions
from sluice_core.combinations import Durability
from sluice_core.configuration import ConfigurationError
from sluice_core.errors import Unavailable
from support.redis_server import RedisServer, replicated, shared_cluster
from support.waiting import until

MIB = 1024 * 1024
FSYNC = ("--appendonly", "yes", "--appendfsync", "always")


async def check(
    server: RedisServer, durability: Durability = Durability.MEMORY, *, allow_unsafe: bool = False
) -> None:
    options = RedisOptions(server.url, allow_unsafe=allow_unsafe)
    async with open_redis(options) as clients:
        await check_server(clients, durability, options)


# ------------------------------------------------------------------ checks at the start


async def test_plain_server_suffices_for_memory(server: RedisServer) -> None:
    await check(server)


async def test_evicting_server_is_refused_by_setting() -> None:
    with RedisServer("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as server:
        with pytest.raises(ConfigurationError, match="set maxmemory-policy noeviction") as caught:
            await check(server)
        assert "\n" not in str(caught.value)
        with capture_logs() as logs:
            await check(server, allow_unsafe=True)
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["redis.unsafe"]


@pytest.mark.rule(6)
@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ((), "appendonly yes"),
        (("--appendonly", "yes", "--appendfsync", "everysec"), "appendfsync always"),
        ((*FSYNC, "--no-appendfsync-on-rewrite", "yes"), "no-appendfsync-on-rewrite no"),
    ],
)
async def test_fsync_needs_a_synchronous_aof(arguments: tuple[str, ...], missing: str) -> None:
    with (
        RedisServer(*arguments) as server,
        pytest.raises(ConfigurationError, match=missing),
    ):
        await check(server, Durability.FSYNC)


async def test_appendfsync_always_suffices_for_fsync() -> None:
    with RedisServer(*FSYNC) as server:
        await check(server, Durability.FSYNC)


async def test_forbidden_config_logs_a_warning_for_fsync() -> None:
    with RedisServer(*FSYNC, "--rename-command", "CONFIG", "") as server, capture_logs() as logs:
        await check(server, Durability.FSYNC)
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == [
        "redis.durability_check_failed"
    ] * 2


@pytest.mark.rule(6)
async def test_replicated_needs_replicas(server: RedisServer) -> None:
    with pytest.raises(ConfigurationError, match="SLUICE_REDIS__REPLICAS_TO_WAIT"):
        await check(server, Durability.REPLICATED)
    with replicated() as (master, replica):
        await check(master, Durability.REPLICATED)
        with pytest.raises(ConfigurationError, match="replica, which takes no writes"):
            await check(replica)


async def test_cluster_node_needs_the_cluster_setting() -> None:
    cluster = shared_cluster()
    with pytest.raises(ConfigurationError, match="SLUICE_REDIS__CLUSTER"):
        await check(cluster.servers[0])
    options = RedisOptions(cluster.url, cluster=True)
    async with open_redis(options) as clients:
        await check_server(clients, Durability.MEMORY, options)


# ------------------------------------------------------------------ the nonce and the monitor


@pytest.mark.rule(28)
async def test_concurrent_processes_agree_on_one_nonce(clients: RedisClients) -> None:
    nonces = await asyncio.gather(*(get_or_create_nonce(clients) for _ in range(20)))
    assert len(set(nonces)) == 1


@pytest.mark.rule(28)
async def test_emptied_redis_changes_the_nonce(clients: RedisClients, server: RedisServer) -> None:
    async with open_redis_monitor(clients, RedisOptions(server.url), 0.05) as monitor:
        before, changed = monitor.nonce, asyncio.get_running_loop().create_future()
        monitor.on_new_nonce(changed.set_result)
        server.flush()
        async with asyncio.timeout(5.0):
            new = await changed
        assert new == monitor.nonce != before
    assert _replaced(clients, "emptied") == 1


async def test_monitor_survives_an_outage_and_detects_the_restart() -> None:
    with RedisServer("--appendonly", "yes") as server:
        options = RedisOptions(server.url)
        async with (
            open_redis(options) as clients,
            open_redis_monitor(clients, options, 0.05) as monitor,
        ):
            nonce = monitor.nonce
            server.stop()
            await asyncio.sleep(0.2)
            server.start()
            await _seen(clients, "restarted")
            # Its append-only file restored everything: the same ledger.
            assert monitor.nonce == nonce
            assert _replaced(clients, "emptied") == 0


async def _seen(clients: RedisClients, what: str) -> None:
    for _ in range(500):
        if _replaced(clients, what) == 1:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"not detected: {what}")


def _replaced(clients: RedisClients, what: str) -> float:
    registry = clients.metrics.registry
    return registry.get_sample_value("sluice_redis_replaced_total", {"what": what}) or 0.0


async def test_high_memory_is_reported_before_it_is_full() -> None:
    with RedisServer("--maxmemory", "20mb") as server:
        options = RedisOptions(server.url, memory_high_fraction=0.5)
        async with open_redis(options) as clients:
            monitor = RedisMonitor(clients, options, await get_or_create_nonce(clients))
            assert not await _is_high(monitor)
            for _ in range(12):
                await clients.execute("l", "RPUSH", "l", b"x" * MIB)
            assert await _is_high(monitor)
            labels = {"server": f"127.0.0.1:{server.port}"}
            registry = clients.metrics.registry
            assert (registry.get_sample_value("sluice_redis_used_bytes", labels) or 0) > 12 * MIB
            assert registry.get_sample_value("sluice_redis_max_bytes", labels) == 20 * MIB
            await clients.execute("l", "DEL", "l")
            assert not await _is_high(monitor)


async def _is_high(monitor: RedisMonitor) -> bool:
    await monitor.check()
    return monitor.memory_is_high


@pytest.mark.rule(6)
async def test_monitor_reports_a_changed_durability_setting() -> None:
    """The start has checked it; somebody changes it afterwards, and changes it back."""
    with RedisServer(*FSYNC) as server:
        options = RedisOptions(server.url)
        async with open_redis(options) as clients:
            nonce = await get_or_create_nonce(clients)
            monitor = RedisMonitor(clients, options, nonce, Durability.FSYNC)
            assert await _is_durable(monitor, clients, server)
            await clients.execute_on_masters("CONFIG", "SET", "appendfsync", "everysec")
            with capture_logs() as logs:
                assert not await _is_durable(monitor, clients, server)
                assert not await _is_durable(monitor, clients, server)
            assert [log["event"] for log in logs] == ["redis.durability_lost"]
            await clients.execute_on_masters("CONFIG", "SET", "appendfsync", "always")
            assert await _is_durable(monitor, clients, server)
            await clients.execute_on_masters("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
            assert not await _is_durable(monitor, clients, server)


@pytest.mark.rule(6)
async def test_monitor_keeps_what_config_showed_without_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither before nor between its two questions is a failure a sign of durability."""
    with RedisServer(*FSYNC) as server:
        options = RedisOptions(server.url)
        async with open_redis(options) as clients:
            nonce = await get_or_create_nonce(clients)
            monitor = RedisMonitor(clients, options, nonce, Durability.FSYNC)
            await clients.execute_on_masters("CONFIG", "SET", "appendfsync", "everysec")
            assert not await _is_durable(monitor, clients, server)
            execute = clients.execute_on_masters

            async def fails_at(setting: str, *command: str) -> Mapping[str, Any]:
                if command == ("CONFIG", "GET", setting):
                    raise Unavailable("REDIS_UNAVAILABLE", "It does not answer.")
                return await execute(*command)

            for setting in ("appendfsync", "no-appendfsync-on-rewrite"):
                with monkeypatch.context() as patch:
                    patch.setattr(clients, "execute_on_masters", partial(fails_at, setting))
                    assert not await _is_durable(monitor, clients, server)
            await execute("CONFIG", "SET", "appendfsync", "always")
            assert await _is_durable(monitor, clients, server)


async def test_monitor_seldom_asks_for_a_config_that_does_not_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with RedisServer(*FSYNC, "--rename-command", "CONFIG", "") as server:
        options = RedisOptions(server.url)
        async with open_redis(options) as clients:
            nonce = await get_or_create_nonce(clients)
            monitor = RedisMonitor(clients, options, nonce, Durability.FSYNC)
            later = asyncio.get_running_loop().time() + CONFIG_INTERVAL_SECONDS + 60.0
            with server.client() as client:
                counts = [refusals(client)]
                for _ in range(3):
                    assert await _is_durable(monitor, clients, server)
                    counts.append(refusals(client))
                monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: later)
                for _ in range(2):
                    assert await _is_durable(monitor, clients, server)
                    counts.append(refusals(client))
    assert [count - counts[0] for count in counts] == [0, 1, 1, 1, 2, 2]


def refusals(client: Redis) -> int:
    return int(client.info("errorstats")["errorstat_ERR"]["count"])


async def test_monitor_goes_on_for_a_user_without_config() -> None:
    with RedisServer(*FSYNC) as server:
        options = RedisOptions(server.url)
        async with open_redis(options) as clients:
            nonce = await get_or_create_nonce(clients)
            monitor = RedisMonitor(clients, options, nonce, Durability.FSYNC)
            with server.client() as client:
                client.execute_command("ACL", "SETUSER", "default", "-config")
            assert await _is_durable(monitor, clients, server)
            server.flush()
            assert await _is_durable(monitor, clients, server)
            assert monitor.nonce != nonce


@pytest.mark.rule(6)
async def test_monitor_reports_a_lost_replica() -> None:
    with replicated() as (master, replica):
        options = RedisOptions(master.url)
        async with open_redis(options) as clients:
            nonce = await get_or_create_nonce(clients)
            monitor = RedisMonitor(clients, options, nonce, Durability.REPLICATED)
            assert await _is_durable(monitor, clients, master)
            replica.stop()

            async def is_noticed() -> bool:
                return not await _is_durable(monitor, clients, master)

            await until(is_noticed, what="the lost replica")


async def _is_durable(monitor: RedisMonitor, clients: RedisClients, server: RedisServer) -> bool:
    await monitor.check()
    labels = {"server": f"127.0.0.1:{server.port}"}
    met = clients.metrics.registry.get_sample_value("sluice_redis_durability_met", labels)
    assert met in (0, 1)
    return met == 1
