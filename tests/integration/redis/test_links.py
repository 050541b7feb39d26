"""Connections on both event loops: services run on uvloop, tests on asyncio."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis.exceptions import RedisError, ResponseError

from sluice_backends.redis.chunks.pushes import Pushes
from sluice_backends.redis.client.connection import RedisClients, open_redis
from sluice_backends.redis.client.server import Server
from sluice_backends.redis.options import RedisOptions
from sluice_core.errors import Unavailable
from support.redis_server import RedisServer, shared_server
from support.redis_tls import tls_redis
from support.waiting import until

MIB = 1024 * 1024
SECONDS = 20.0
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


@contextmanager
def reached_by(scheme: str, folder: Path) -> Iterator[str]:
    """Yield the URL of a separate server without a password."""
    if scheme == "rediss":
        with tls_redis(folder) as server:
            yield f"{server}/3?ssl_ca_certs={folder / 'ca.pem'}"
        return
    socket_path = folder / "redis.sock"
    with RedisServer("--unixsocket", str(socket_path)) as local:
        by_port = f"redis://127.0.0.1:{local.port}/3"
        yield f"unix://{socket_path}?db=3" if scheme == "unix" else by_port


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix"])
def test_large_and_small_values_share_an_exchange(run: Run, scheme: str, tmp_path: Path) -> None:
    async def scenario(options: RedisOptions) -> None:
        blocks = [random.Random(n).randbytes(n * 300_000 + 1) for n in range(5)]
        async with open_redis(options) as clients:
            for block in blocks:
                pushed = [("RPUSH", "l", memoryview(block)), ("INCR", "n")]
                await clients.pipeline("l", pushed, operation="test", atomic=True)
            read = [("GET", "n"), ("LRANGE", "l", 0, -1), ("GET", "nothing"), ("LLEN", "l")]
            assert await clients.pipeline("l", read, operation="test") == [b"5", blocks, None, 5]

    with reached_by(scheme, tmp_path) as url:
        run(scenario(RedisOptions(url)))


def test_cancelled_exchange_leaves_no_reply_to_the_next(run: Run) -> None:
    server = shared_server()
    server.flush()

    async def scenario() -> None:
        block = b"x" * MIB
        async with open_redis(RedisOptions(server.url, max_connections=2)) as clients:
            await clients.execute("k", "SET", "k", block)
            for number in range(60):
                leaving = asyncio.create_task(clients.execute("k", "GET", "k"))
                await asyncio.sleep(0.0001 * (number % 20))
                leaving.cancel()
                assert await clients.execute("k", "ECHO", f"{number}") == str(number).encode()
                with suppress(asyncio.CancelledError):
                    assert await leaving == block

    run(scenario())


def test_replies_are_in_order_of_sending(run: Run) -> None:
    server = shared_server()
    server.flush()

    async def scenario() -> None:
        link = await Server(RedisOptions(server.url)).acquire()
        on_the_way = [link.send([("RPUSH", "l", b"x" * MIB), ("LLEN", "l")]) for _ in range(8)]
        gone = link.send([("GET", "l")])
        gone.cancel()
        last = link.send([("ECHO", "last")])
        assert await asyncio.gather(*on_the_way) == [[n, n] for n in range(1, 9)]
        assert await last == [b"last"]
        assert link.is_idle
        await link.aclose()
        assert not link.is_open

    run(scenario())


def test_killed_server_fails_all_commands_in_flight(run: Run) -> None:
    async def scenario() -> None:
        with RedisServer() as server:
            async with open_redis(RedisOptions(server.url, max_connections=4)) as clients:
                waiting = [
                    asyncio.create_task(clients.execute("l", "BLPOP", "l", 0)) for _ in range(4)
                ]
                await asyncio.sleep(0.1)
                server.kill()
                ended = await asyncio.gather(*waiting, return_exceptions=True)
                assert all(isinstance(each, Unavailable) for each in ended), ended
                server.start()
                assert await clients.execute("k", "SET", "k", b"x" * MIB) == b"OK"

    run(scenario())


def test_closed_idle_connection_is_reopened(run: Run) -> None:
    server = shared_server()

    async def scenario() -> None:
        async with open_redis(RedisOptions(server.url, max_connections=3)) as clients:
            await asyncio.gather(*(clients.execute("k", "PING") for _ in range(3)))
            with server.client() as inside:
                inside.client_kill_filter(_type="normal", skipme=True)
            # The event loop has not processed the close yet.
            assert await clients.execute("k", "PING") == b"PONG"

    run(scenario())


def test_closed_server_keeps_no_connection(run: Run) -> None:
    """A cluster drops a server while a command is being routed to it."""

    async def scenario() -> None:
        server = Server(RedisOptions(shared_server().url))
        before = await server.acquire()
        await server.aclose()
        late = await server.acquire()
        assert await late.send([("PING",)]) == [b"PONG"]
        server.release(before)
        server.release(late)
        left = [link for link in (before, late) if link.is_open]
        for link in left:
            await link.aclose()  # otherwise the event loop does not end
        assert not left

    run(scenario())


def test_failed_push_keeps_no_connection(run: Run) -> None:
    async def scenario() -> None:
        options = RedisOptions(shared_server().url, max_connections=1)
        async with open_redis(options) as clients, asyncio.timeout(SECONDS):
            pushes = Pushes(clients, "k")
            with pytest.raises(UnicodeEncodeError):
                await pushes.push([("RPUSH", "k", "\ud800")], lambda _: None)
            await pushes.stop()
            assert await clients.execute("k", "PING") == b"PONG"

    run(scenario())


def test_server_of_another_protocol_is_unavailable(run: Run) -> None:
    async def scenario() -> None:
        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"+OK\r\n" * 4 + b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.close()

        stranger = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = stranger.sockets[0].getsockname()[1]
        clients = RedisClients(RedisOptions(f"redis://127.0.0.1:{port}/0"))
        with pytest.raises(Unavailable):
            await clients.pipeline("k", [("PING",)] * 8, operation="test")
        await clients.aclose()
        stranger.close()

    run(scenario())


def pings(server: RedisServer) -> int:
    with server.client() as client:
        statistics = client.info("commandstats").get("cmdstat_ping", {"calls": 0})
    return int(statistics["calls"])


def test_subscription_receives_until_it_is_cut(run: Run) -> None:
    server = shared_server()
    messages: list[tuple[bytes, str, Any]] = []

    async def scenario() -> None:
        async with (
            open_redis(RedisOptions(server.url)) as clients,
            clients.subscription(lambda *message: messages.append(message)) as subscription,
        ):
            subscription.request("SUBSCRIBE", "news")
            await until(lambda: len(messages) == 1, SECONDS, "subscribed")
            listening = asyncio.ensure_future(subscription.listen(0.5))
            for word in ("one", "two", "tri"):  # the reply to a PING is not passed on
                await clients.execute("k", "PUBLISH", "news", word)
                before = pings(server)
                await until(lambda: pings(server) > before, SECONDS, "a PING")  # noqa: B023
            subscription.request("UNSUBSCRIBE", "news")
            await until(lambda: len(messages) == 5, SECONDS, "unsubscribed")
            assert not listening.done()
            with server.client() as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with pytest.raises((OSError, RedisError)):
                async with asyncio.timeout(SECONDS):
                    await listening

    run(scenario())
    assert messages == [
        (b"subscribe", "news", 1),
        (b"message", "news", b"one"),
        (b"message", "news", b"two"),
        (b"message", "news", b"tri"),
        (b"unsubscribe", "news", 0),
    ]


def test_refused_subscription_raises_the_server_error(run: Run) -> None:
    async def scenario() -> None:
        async with (
            open_redis(RedisOptions(shared_server().url)) as clients,
            clients.subscription(lambda *_: None) as subscription,
        ):
            subscription.request("SUBSCRIBE")
            with pytest.raises(ResponseError, match="wrong number of arguments"):
                async with asyncio.timeout(SECONDS):
                    await subscription.listen()

    run(scenario())
