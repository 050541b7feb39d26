"""Connections to Redis: outages, full memory, wrong configuration, clusters."""

from __future__ import annotations

import asyncio
import random
import time
from hashlib import sha1
from pathlib import Path

import pytest

from sluice_backends.redis.client.connection import RedisClients, open_redis
from sluice_backends.redis.client.scripts import Script
from sluice_backends.redis.metrics import RedisMetrics
from sluice_backends.redis.options import RedisOptions
from sluice_core.configuration import ConfigurationError
from sluice_core.errors import Internal, ResourceExhausted, Unavailable
from support.certificates import REFUSED, Authority
from support.redis_server import RedisServer, replicated, shared_cluster
from support.redis_tls import tls_redis
from support.waiting import until

MIB = 1024 * 1024

SECONDS = 20.0
"""Generous limit for every wait, also on a loaded machine."""


def script(source: bytes) -> Script:
    return Script("test_script", source, sha1(source, usedforsecurity=False).hexdigest())


ADD = script(b"return redis.call('INCRBY', KEYS[1], ARGV[1])")
PUSH = script(b"return redis.call('RPUSH', KEYS[1], ARGV[1])")


# ------------------------------------------------------------------ replies


async def test_replies_are_undecoded(clients: RedisClients) -> None:
    assert await clients.execute("k", "GET", "k") is None
    assert await clients.execute("k", "SET", "k", b"\xff\x00") == b"OK"
    assert await clients.execute("k", "GET", "k") == b"\xff\x00"
    assert await clients.execute("l", "RPUSH", "l", memoryview(b"a"), bytearray(b"b")) == 2
    assert await clients.execute("l", "LRANGE", "l", 0, -1) == [b"a", b"b"]


async def test_pipeline_replies_are_in_order(clients: RedisClients) -> None:
    commands = [("SET", "{t}a", 1), ("INCR", "{t}a"), ("GET", "{t}b")]
    assert await clients.pipeline("{t}a", commands, operation="test") == [b"OK", 2, None]


async def test_atomic_pipeline_with_an_invalid_command_is_a_no_op(clients: RedisClients) -> None:
    with pytest.raises(Internal) as caught:
        await clients.pipeline("k", [("SET", "k", 1), ("NOSUCH",)], operation="test", atomic=True)
    assert caught.value.reason == "REDIS_REFUSED"
    assert await clients.execute("k", "GET", "k") is None


async def test_script_is_resent_only_after_a_script_flush(
    clients: RedisClients,
) -> None:
    assert [await clients.call(ADD, ["n"], [2]) for _ in range(2)] == [2, 4]
    await clients.execute("n", "SCRIPT", "FLUSH")
    assert await clients.call(ADD, ["n"], [3]) == 7


async def test_script_error_is_internal(clients: RedisClients) -> None:
    with pytest.raises(Internal) as caught:
        await clients.call(script(b"return redis.error_reply('SECRET key')"), ["k"], [])
    assert caught.value.reason == "REDIS_REFUSED"


async def test_callers_beyond_the_connection_limit_wait(server: RedisServer) -> None:
    metrics = RedisMetrics()
    async with open_redis(RedisOptions(server.url, max_connections=2), metrics) as clients:
        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(clients.call(ADD, ["n"], [1]))
        assert await clients.execute("n", "GET", "n") == b"100"
        with server.client() as inside:
            assert len(inside.client_list()) <= 3
    counted = metrics.registry.get_sample_value(
        "sluice_redis_seconds_count", {"operation": "test_script"}
    )
    assert counted == 100


async def test_cancelled_call_does_not_shift_other_replies(server: RedisServer) -> None:
    async with open_redis(RedisOptions(server.url, max_connections=1)) as clients:
        for number in range(20):
            leaving = asyncio.create_task(clients.execute("k", "ECHO", f"leaving {number}"))
            await asyncio.sleep(0.0001 * number)
            leaving.cancel()
            assert await clients.execute("k", "ECHO", f"{number}") == str(number).encode()
            await asyncio.wait([leaving])


async def test_many_cancelled_calls_leak_no_connection(server: RedisServer) -> None:
    options = RedisOptions(server.url, max_connections=4, operation_timeout_seconds=SECONDS)
    block = b"x" * MIB
    async with open_redis(options) as clients:
        for _ in range(10):
            calls = [
                asyncio.create_task(clients.execute(f"k{n}", "SET", f"k{n}", block))
                for n in range(30)
            ]
            for call in calls:
                await asyncio.sleep(random.random() * 0.002)
                call.cancel()
            await asyncio.wait(calls)
        # All four connections are usable, and none has an outstanding reply.
        waiting = [asyncio.create_task(clients.execute("l", "BLPOP", "l", 0)) for _ in range(4)]
        with server.client() as inside:

            async def all_wait() -> bool:
                return int(inside.info("clients")["blocked_clients"]) == 4

            await until(all_wait, SECONDS, "four connections are in use")
            inside.rpush("l", *range(4))
        popped = await asyncio.gather(*waiting)
        assert sorted(popped) == [[b"l", str(n).encode()] for n in range(4)]


# ------------------------------------------------------------------ faults


async def test_killed_server_is_unavailable_until_restarted() -> None:
    metrics = RedisMetrics()
    with RedisServer() as server:
        options = RedisOptions(server.url, operation_timeout_seconds=10 * SECONDS)
        async with open_redis(options, metrics) as clients:
            await clients.execute("k", "SET", "k", "v")
            server.kill()
            async with asyncio.timeout(SECONDS):  # no call hangs
                for _ in range(3):
                    with pytest.raises(Unavailable) as caught:
                        await clients.execute("k", "GET", "k")
                    assert caught.value.reason == "REDIS_UNAVAILABLE"
            server.start()
            assert await clients.execute("k", "GET", "k") is None
    failed = metrics.registry.get_sample_value("sluice_redis_errors_total", {"operation": "get"})
    assert failed == 3


async def test_hanging_server_is_unavailable_after_the_timeout() -> None:
    with RedisServer() as server:
        options = RedisOptions(server.url, operation_timeout_seconds=1.0)
        async with open_redis(options) as clients:
            server.pause()
            try:
                started = time.monotonic()
                async with asyncio.timeout(SECONDS):
                    with pytest.raises(Unavailable):
                        await clients.execute("k", "GET", "k")
                assert time.monotonic() - started > 0.9
            finally:
                server.resume()
            assert await clients.execute("k", "GET", "k") is None


async def test_full_server_is_exhausted_and_keeps_its_data() -> None:
    with RedisServer("--maxmemory", "8mb") as server:
        async with open_redis(RedisOptions(server.url)) as clients:
            kept, refusal = await _fill(clients)
            assert refusal.reason == "REDIS_FULL"
            assert refusal.retry_after_seconds
            assert kept > 0
            assert await clients.execute("l", "LLEN", "l") == kept
            block = b"x" * MIB
            with pytest.raises(ResourceExhausted):
                await clients.call(PUSH, ["l"], [block])
            with pytest.raises(ResourceExhausted):
                await clients.pipeline("l", [("RPUSH", "l", block)], operation="test", atomic=True)
            assert await clients.execute("l", "LLEN", "l") == kept
            # Freeing memory is allowed; UNLINK does so in the background.
            await clients.execute("l", "UNLINK", "l")
            await _succeeds_soon(clients)


async def _fill(clients: RedisClients) -> tuple[int, ResourceExhausted]:
    """Return the number of accepted blocks and the error of the next."""
    for kept in range(20):
        try:
            await clients.execute("l", "RPUSH", "l", b"x" * MIB)
        except ResourceExhausted as error:
            return kept, error
    raise AssertionError("it is never full")


async def _succeeds_soon(clients: RedisClients) -> None:
    for _ in range(100):
        try:
            await clients.execute("k", "SET", "k", 1)
        except ResourceExhausted:
            await asyncio.sleep(0.02)
        else:
            return
    pytest.fail("no room came back")


async def test_wrong_password_is_a_configuration_error() -> None:
    with RedisServer("--requirepass", "right") as server:
        for url in (server.url, server.url.replace("redis://", "redis://:wrong@")):
            with pytest.raises(ConfigurationError, match="SLUICE_REDIS__URL") as caught:
                async with open_redis(RedisOptions(url)):
                    pytest.fail("let in")
            assert "wrong" not in str(caught.value)
        async with open_redis(RedisOptions(server.url.replace("://", "://:right@"))) as clients:
            assert await clients.execute("k", "PING") == b"PONG"


async def test_tls_needs_a_trusted_authority(tmp_path: Path) -> None:
    with tls_redis(tmp_path) as server:
        url, authority = f"{server}/0", tmp_path / "ca.pem"
        async with open_redis(RedisOptions(f"{url}?ssl_ca_certs={authority}")) as clients:
            assert await clients.execute("k", "SET", "k", b"x" * MIB) == b"OK"
            assert await clients.execute("k", "GET", "k") == b"x" * MIB
        with pytest.raises(ConfigurationError, match="certificate of Redis is not from a trusted"):
            async with open_redis(RedisOptions(url)):
                pytest.fail("trusted")


@pytest.mark.parametrize("kind", REFUSED)
async def test_tls_refuses_a_certificate(tmp_path: Path, kind: str) -> None:
    authority, refused = Authority(), REFUSED[kind]
    with tls_redis(tmp_path, authority, refused.issue(authority)) as server:
        options = RedisOptions(f"{server}/0?ssl_ca_certs={tmp_path / 'ca.pem'}")
        with pytest.raises(ConfigurationError) as caught:
            async with open_redis(options):
                pytest.fail("trusted")
    line = f"SLUICE_REDIS__URL: the certificate of Redis {refused.problem}; "
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "cannot be read"), ("nonsense", "is not PEM")]
)
async def test_unusable_authority_is_a_configuration_error(
    tmp_path: Path, content: str | None, problem: str
) -> None:
    """Not a server that does not answer, for which the process would wait."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=f"SLUICE_REDIS__URL: a TLS file {problem}"):
        async with open_redis(RedisOptions(f"rediss://127.0.0.1:1/0?ssl_ca_certs={path}")):
            pytest.fail("opened")


async def test_unix_socket_works(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer("--unixsocket", str(path)):
        async with open_redis(RedisOptions(f"unix://{path}")) as clients:
            assert await clients.execute_on_masters("PING") == {str(path): b"PONG"}


async def test_unreachable_server_at_start_is_unavailable() -> None:
    with RedisServer() as server:
        url = server.url
    with pytest.raises(Unavailable):
        async with open_redis(RedisOptions(url)):
            pytest.fail("opened")


def test_options_repr_hides_the_password() -> None:
    assert "secret" not in repr(RedisOptions("redis://:secret@host:1/0"))


# ------------------------------------------------------------------ replicas


@pytest.mark.rule(6)
async def test_waiting_for_replicas_covers_the_scripts_writes() -> None:
    with replicated() as (master, replica):
        async with open_redis(RedisOptions(master.url)) as clients:
            assert await clients.call_and_wait(ADD, ["n"], [5]) == 5
            with replica.client() as inside:
                assert inside.get("n") == b"5"


@pytest.mark.rule(6)
async def test_slow_replica_raises_after_the_script_has_run() -> None:
    with replicated() as (master, replica):
        async with open_redis(RedisOptions(master.url, wait_timeout_ms=200)) as clients:
            replica.pause()
            try:
                with pytest.raises(Unavailable) as caught:
                    await clients.call_and_wait(ADD, ["n"], [5])
            finally:
                replica.resume()
            assert caught.value.reason == "NOT_REPLICATED"
            assert await clients.execute("n", "GET", "n") == b"5"


# ------------------------------------------------------------------ cluster


async def test_cluster_keys_are_routed_to_their_server() -> None:
    cluster = shared_cluster()
    cluster.flush()
    async with open_redis(RedisOptions(cluster.url, cluster=True)) as clients:
        for number in range(60):
            await clients.call(ADD, [f"n{number}"], [number])
        assert [await clients.execute(f"n{n}", "GET", f"n{n}") for n in range(60)] == [
            str(n).encode() for n in range(60)
        ]
    held = [len(server.all_keys()) for server in cluster.servers]
    assert all(held)
    assert sum(held) == 60


async def test_migrating_slot_is_followed_during_and_after() -> None:
    cluster = shared_cluster()
    cluster.flush()
    async with open_redis(RedisOptions(cluster.url, cluster=True)) as clients:
        await clients.call(ADD, ["{m}n"], [1])
        source = next(server for server in cluster.servers if server.all_keys())
        target = next(server for server in cluster.servers if server is not source)
        with source.client() as of_source, target.client() as of_target:
            slot = of_source.execute_command("CLUSTER KEYSLOT", "{m}n")
            source_id = of_source.execute_command("CLUSTER MYID").decode()
            target_id = of_target.execute_command("CLUSTER MYID").decode()
            of_target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
            of_source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target_id)
            of_source.execute_command("MIGRATE", "127.0.0.1", target.port, "{m}n", 0, 5000)

            # ASK: the key is on the new server, the slot is not yet.
            assert await clients.call(ADD, ["{m}n"], [1]) == 2
            assert await clients.pipeline(
                "{m}n", [("INCR", "{m}n"), ("GET", "{m}n")], operation="test"
            ) == [3, b"3"]
            assert await clients.pipeline(
                "{m}n", [("INCR", "{m}n"), ("GET", "{m}n")], operation="test", atomic=True
            ) == [4, b"4"]

            for inside in (of_target, of_source):
                inside.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)

            # MOVED.
            assert await clients.call(ADD, ["{m}n"], [1]) == 5
            assert await clients.pipeline(
                "{m}n", [("INCR", "{m}n"), ("GET", "{m}n")], operation="test", atomic=True
            ) == [6, b"6"]


async def test_cluster_recovers_from_the_loss_of_a_server() -> None:
    cluster = shared_cluster()
    cluster.flush()
    async with open_redis(
        RedisOptions(cluster.url, cluster=True, operation_timeout_seconds=1.0)
    ) as clients:
        for number in range(30):
            await clients.execute(f"n{number}", "SET", f"n{number}", number)
        stopped = cluster.servers[1]
        on_it = stopped.all_keys()
        assert on_it
        stopped.pause()
        try:
            with pytest.raises(Unavailable):
                await clients.execute(on_it[0], "GET", on_it[0])
        finally:
            stopped.resume()
        for _ in range(100):
            try:
                assert await clients.execute(on_it[0], "GET", on_it[0]) is not None
                break
            except Unavailable:
                await asyncio.sleep(0.1)
        else:
            pytest.fail("the server was not found again")


async def test_cluster_setting_must_match_the_server(server: RedisServer) -> None:
    with pytest.raises(ConfigurationError, match="SLUICE_REDIS__CLUSTER"):
        async with open_redis(RedisOptions(server.url, cluster=True)):
            pytest.fail("opened")
