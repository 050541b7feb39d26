"""Our own end of a connection, on both event loops: the services run on uvloop, tests do not."""

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
    """The URL of a server of its own, without a password."""
    if scheme == "rediss":
        with tls_redis(folder) as server:
            yield f"{server}/3?ssl_ca_certs={folder / 'ca.pem'}"
        return
    socket_path = folder / "redis.sock"
    with RedisServer("--unixsocket", str(socket_path)) as local:
        by_port = f"redis://127.0.0.1:{local.port}/3"
        yield f"unix://{socket_path}?db=3" if scheme == "unix" else by_port


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix"])
def test_large_and_small_values_travel_together(run: Run, scheme: str, tmp_path: Path) -> None:
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


def test_a_cancelled_exchange_leaves_nothing_for_the_next(run: Run) -> None:
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


def test_replies_come_in_the_order_of_the_sending(run: Run) -> None:
    server = shared_server()
    server.flush()

    async def scenario() -> None:
        link = await Server(RedisOptions(server.url)).take()
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


def test_a_server_that_dies_fails_all_that_is_on_the_way(run: Run) -> None:
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


def test_an_idle_connection_that_was_closed_is_opened_again(run: Run) -> None:
    server = shared_server()

    async def scenario() -> None:
        async with open_redis(RedisOptions(server.url, max_connections=3)) as clients:
            await asyncio.gather(*(clients.execute("k", "PING") for _ in range(3)))
            with server.client() as inside:
                inside.client_kill_filter(_type="normal", skipme=True)
            # The event loop has not heard of it yet.
            assert await clients.execute("k", "PING") == b"PONG"

    run(scenario())


def test_a_server_that_was_closed_keeps_no_connection(run: Run) -> None:
    """A cluster forgets a server while somebody is about to ask it."""

    async def scenario() -> None:
        server = Server(RedisOptions(shared_server().url))
        before = await server.take()
        await server.aclose()
        late = await server.take()
        assert await late.send([("PING",)]) == [b"PONG"]
        server.give_back(before)
        server.give_back(late)
        left = [link for link in (before, late) if link.is_open]
        for link in left:
            await link.aclose()  # or the event loop does not end
        assert not left

    run(scenario())


def test_a_push_that_cannot_be_written_keeps_no_connection(run: Run) -> None:
    async def scenario() -> None:
        options = RedisOptions(shared_server().url, max_connections=1)
        async with open_redis(options) as clients, asyncio.timeout(SECONDS):
            pushes = Pushes(clients, "k")
            with pytest.raises(UnicodeEncodeError):
                await pushes.push([("RPUSH", "k", "\ud800")], lambda _: None)
            await pushes.give_up()
            assert await clients.execute("k", "PING") == b"PONG"

    run(scenario())


def test_what_does_not_speak_redis_is_unavailable(run: Run) -> None:
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
        asked = client.info("commandstats").get("cmdstat_ping", {"calls": 0})
    return int(asked["calls"])


def test_a_subscription_hears_until_it_is_cut(run: Run) -> None:
    server = shared_server()
    heard: list[tuple[bytes, str, Any]] = []

    async def scenario() -> None:
        async with (
            open_redis(RedisOptions(server.url)) as clients,
            clients.subscription(lambda *news: heard.append(news)) as subscription,
        ):
            subscription.tell("SUBSCRIBE", "news")
            await until(lambda: len(heard) == 1, SECONDS, "subscribed")
            listening = asyncio.ensure_future(subscription.listen(0.5))
            for word in ("one", "two", "tri"):  # the answer to a PING is silent beside them
                await clients.execute("k", "PUBLISH", "news", word)
                before = pings(server)
                await until(lambda: pings(server) > before, SECONDS, "a PING")  # noqa: B023
            subscription.tell("UNSUBSCRIBE", "news")
            await until(lambda: len(heard) == 5, SECONDS, "unsubscribed")
            assert not listening.done()
            with server.client() as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with pytest.raises((OSError, RedisError)):
                async with asyncio.timeout(SECONDS):
                    await listening

    run(scenario())
    assert heard == [
        (b"subscribe", "news", 1),
        (b"message", "news", b"one"),
        (b"message", "news", b"two"),
        (b"message", "news", b"tri"),
        (b"unsubscribe", "news", 0),
    ]


def test_a_subscription_that_is_refused_ends_with_the_servers_words(run: Run) -> None:
    async def scenario() -> None:
        async with (
            open_redis(RedisOptions(shared_server().url)) as clients,
            clients.subscription(lambda *_: None) as subscription,
        ):
            subscription.tell("SUBSCRIBE")
            with pytest.raises(ResponseError, match="wrong number of arguments"):
                async with asyncio.timeout(SECONDS):
                    await subscription.listen()

    run(scenario())
