"""Fault proxy: it injects exactly the configured faults."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from support.http_faults import INTERNAL_ERROR, SLOW_DOWN, HttpFault, HttpFaults
from support.network_faults import Faults, Way
from support.proxy import FaultProxy
from support.redis_server import RedisServer

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SHORT = 0.2


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """Run a service on a loopback port while the block lasts. Yield its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(run(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """A proxy in front of an echo service."""
    async with listening(echo) as port, FaultProxy("127.0.0.1", port) as proxy:
        yield proxy


class Peer:
    """A client of the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, size: int, within: float = 5.0) -> bytes:
        async with asyncio.timeout(within):
            return await self.reader.readexactly(size)

    async def exchange(self, data: bytes) -> bytes:
        """Send and receive the same amount concurrently."""
        heard, _ = await asyncio.gather(self.hear(len(data)), self.say(data))
        return heard

    async def hears_nothing(self) -> bool:
        try:
            await self.hear(1, SHORT)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def peer_of(proxy: FaultProxy) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


# ------------------------------------------------------------------ without faults


async def test_it_forwards_both_ways_and_the_end_of_each(proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 20_000
    async with peer_of(proxy) as peer:
        assert await peer.exchange(data) == data
        peer.writer.write_eof()
        assert await peer.reader.read() == b""


async def test_connections_are_bounded(proxy: FaultProxy) -> None:
    async with FaultProxy(*proxy.upstream, max_connections=1) as small, peer_of(small) as first:
        assert await first.exchange(b"in") == b"in"
        async with peer_of(small) as second:
            with pytest.raises(ConnectionResetError):
                await second.reader.read()
        assert await first.exchange(b"still in") == b"still in"


async def test_missing_service_resets_the_client() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # so that no other process listens there
        upstream = silent.getsockname()
        async with FaultProxy(*upstream) as proxy, peer_of(proxy) as peer:
            with pytest.raises(ConnectionResetError):
                await peer.reader.read()


async def test_close_does_not_wait_for_a_client_that_does_not_read() -> None:
    async def pour(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    began = time.monotonic()
    async with listening(pour) as port, FaultProxy("127.0.0.1", port) as proxy, peer_of(proxy):
        await asyncio.sleep(SHORT)
    assert time.monotonic() - began < 5


# ------------------------------------------------------------------ time and bandwidth


async def test_latency_delays_every_byte_and_leaves_the_bandwidth(proxy: FaultProxy) -> None:
    proxy.down = Faults(latency_seconds=SHORT)
    async with peer_of(proxy) as peer:
        began = time.monotonic()
        assert await peer.exchange(bytes(6_000_000)) == bytes(6_000_000)
        assert SHORT <= time.monotonic() - began < SHORT * 45  # ninety reads of 64 KiB each


async def test_bandwidth_is_kept(proxy: FaultProxy) -> None:
    proxy.up = Faults(bytes_per_second=100_000)
    async with peer_of(proxy) as peer:
        began = time.monotonic()
        await peer.exchange(bytes(50_000))
        assert 0.4 < time.monotonic() - began < 4


async def test_bytes_arrive_in_slices() -> None:
    sizes: list[int] = []

    async def measure(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            sizes.append(len(data))
            writer.write(data)

    async with listening(measure) as port, FaultProxy("127.0.0.1", port) as proxy:
        # A slower line keeps the kernel from merging slices.
        proxy.up = Faults(slice_bytes=7, bytes_per_second=2_000)
        async with peer_of(proxy) as peer:
            assert await peer.exchange(b"x" * 70) == b"x" * 70
    assert max(sizes) <= 14
    assert len(sizes) > 4


async def test_stalled_direction_delivers_once_it_flows_again(proxy: FaultProxy) -> None:
    async with peer_of(proxy) as peer:
        assert await peer.exchange(b"before") == b"before"
        proxy.down = Faults(stalled=True)
        await peer.say(b"held")
        assert await peer.hears_nothing()
        proxy.heal()
        assert await peer.hear(4) == b"held"


# ------------------------------------------------------------------ ends


async def test_reset_reaches_every_client_and_new_ones_get_in(proxy: FaultProxy) -> None:
    async with peer_of(proxy) as first, peer_of(proxy) as second:
        for peer in (first, second):
            assert await peer.exchange(b"in") == b"in"
        proxy.reset()
        for peer in (first, second):
            with pytest.raises(ConnectionResetError):
                await peer.reader.read()
    async with peer_of(proxy) as third:
        assert await third.exchange(b"in") == b"in"


async def test_refusal_lasts_until_it_is_cleared(proxy: FaultProxy) -> None:
    proxy.refuse()
    async with peer_of(proxy) as peer:
        with pytest.raises(ConnectionResetError):
            await peer.reader.read()
    proxy.heal()
    async with peer_of(proxy) as peer:
        assert await peer.exchange(b"in") == b"in"


async def test_half_closed_client_can_still_send() -> None:
    heard = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(5) == b"hello"
        assert await reader.readexactly(5) == b"again"
        heard.set()
        await reader.read()

    async with (
        listening(listen) as port,
        FaultProxy("127.0.0.1", port) as proxy,
        peer_of(proxy) as peer,
    ):
        await peer.say(b"hello")
        await asyncio.sleep(SHORT)
        proxy.half_close(Way.DOWN)
        assert await peer.reader.read() == b""
        await peer.say(b"again")
        async with asyncio.timeout(5):
            await heard.wait()


async def test_bytes_in_a_closed_direction_are_lost(proxy: FaultProxy) -> None:
    async with peer_of(proxy) as peer:
        assert await peer.exchange(b"before") == b"before"
        proxy.half_close(Way.UP)
        await peer.say(b"after")
        assert await peer.reader.read() == b""


# ------------------------------------------------------------------ damage


async def test_one_bit_of_the_byte_at_an_offset_is_flipped_once(proxy: FaultProxy) -> None:
    proxy.up = Faults(flip_at=100_000)
    data = bytes(200_000)
    async with peer_of(proxy) as peer:
        damaged = await peer.exchange(data)
    assert [at for at, byte in enumerate(damaged) if byte] == [100_000]
    assert damaged[100_000] == 1
    async with peer_of(proxy) as peer:
        assert await peer.exchange(data) == data  # the retry


async def test_random_flips_depend_on_the_seed_only(
    proxy: FaultProxy,
) -> None:
    """Not on how the bytes are cut into reads."""
    data = bytes(500_000)
    seen: list[bytes] = []
    for seed, pieces in ((1, 1), (1, 10), (2, 1)):
        async with FaultProxy(*proxy.upstream) as fresh, peer_of(fresh) as peer:
            fresh.up = Faults(flip_probability=1e-4, most_flips=1000, seed=seed)
            step = len(data) // pieces
            seen.append(b"".join([await peer.exchange(bytes(step)) for _ in range(pieces)]))
    assert seen[0] == seen[1] != seen[2]
    assert 20 < sum(seen[0]) < 100


# ------------------------------------------------------------------ lost answers


@pytest.fixture
async def redis_proxy() -> AsyncIterator[FaultProxy]:
    with RedisServer() as server:
        async with FaultProxy("127.0.0.1", server.port) as proxy:
            yield proxy


@asynccontextmanager
async def redis_behind(proxy: FaultProxy) -> AsyncIterator[Redis]:
    client = Redis(port=proxy.port, single_connection_client=True, retry=Retry(NoBackoff(), 0))
    try:
        yield client
    finally:
        await client.aclose()


async def test_lost_answer_was_carried_out(redis_proxy: FaultProxy) -> None:
    async with redis_behind(redis_proxy) as redis:
        assert await redis.incr("count") == 1
        redis_proxy.lose_answer(b"INCR")
        assert await redis.get("count") == b"1"
        with pytest.raises(RedisConnectionError):
            await redis.incr("count")
        assert redis_proxy.answers_to_lose == 0
        assert await redis.get("count") == b"2"
        assert await redis.incr("count") == 3


async def test_answer_of_request_n_is_lost(redis_proxy: FaultProxy) -> None:
    redis_proxy.lose_answer(b"RPUSH", nth=3)
    async with redis_behind(redis_proxy) as redis:
        assert [await redis.rpush("list", b"x" * 200_000) for _ in range(2)] == [1, 2]
        with pytest.raises(RedisConnectionError):
            await redis.rpush("list", b"x" * 200_000)
        assert await redis.llen("list") == 3


# ------------------------------------------------------------------ HTTP


async def serve_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer 200 with the size of the body, request after request."""
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"chunked" in head:
            size = 0
            while step := int(await reader.readline(), 16):
                size += len(await reader.readexactly(step))
                await reader.readexactly(2)
            await reader.readuntil(b"\r\n")
        else:
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            size = len(await reader.readexactly(int(length or 0)))
        text = str(size).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))
        await writer.drain()


@pytest.fixture
async def web() -> AsyncIterator[tuple[FaultProxy, HttpFaults]]:
    faults = HttpFaults()
    async with (
        listening(serve_http) as port,
        FaultProxy("127.0.0.1", port, http=faults) as proxy,
    ):
        yield proxy, faults


def request(method: str, target: str, body: bytes = b"", *, chunked: bool = False) -> bytes:
    if chunked:
        framed = b"".join(
            b"%x\r\n%s\r\n" % (len(body[i : i + 7]), body[i : i + 7])
            for i in range(0, len(body), 7)
        )
        framing, body = "transfer-encoding: chunked", framed + b"0\r\n\r\n"
    else:
        framing = f"content-length: {len(body)}"
    return f"{method} {target} HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n".encode() + body


async def ask(peer: Peer, message: bytes, pause_at: int | None = None) -> tuple[int, bytes]:
    """Return status and body of the answer."""
    if pause_at is None:
        await peer.say(message)
    else:
        await peer.say(message[:pause_at])
        await asyncio.sleep(0.05)
        await peer.say(message[pause_at:])
    async with asyncio.timeout(5):
        head = await peer.reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head.split(b" ")[1]), await peer.reader.readexactly(length)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("pause_at", [None, 3, 60, 90])
async def test_requests_without_a_fault_pass_one_after_the_other(
    web: tuple[FaultProxy, HttpFaults], chunked: bool, pause_at: int | None
) -> None:
    proxy, faults = web
    faults.add(HttpFault(503, target="/never"))
    async with peer_of(proxy) as peer:
        for size in (0, 1, 100, 30_000):
            message = request(
                "PUT", f"/{size}", b"/never\r\n\r\n"[:10].ljust(size)[:size], chunked=chunked
            )
            assert await ask(peer, message, pause_at) == (200, str(size).encode())
    assert list(faults.requests) == ["PUT /0", "PUT /1", "PUT /100", "PUT /30000"]
    assert faults.answered == 0


async def test_503_never_reaches_the_service_and_the_retry_does(
    web: tuple[FaultProxy, HttpFaults],
) -> None:
    proxy, faults = web
    faults.add(HttpFault(503, SLOW_DOWN, method="PUT", target="partNumber=2"))
    async with peer_of(proxy) as peer:
        assert await ask(peer, request("PUT", "/k?partNumber=1", b"one")) == (200, b"3")
        refused = await ask(peer, request("PUT", "/k?partNumber=2", bytes(300_000)))
        assert refused == (503, SLOW_DOWN)
        assert await peer.reader.read() == b""
    async with peer_of(proxy) as peer:
        again = await ask(peer, request("PUT", "/k?partNumber=2", bytes(300_000)))
        assert again == (200, b"300000")
    assert faults.answered == 1


async def test_200_may_carry_an_error(web: tuple[FaultProxy, HttpFaults]) -> None:
    proxy, faults = web
    faults.add(HttpFault(200, INTERNAL_ERROR, method="POST", target="uploadId=", times=None))
    for _ in range(2):
        async with peer_of(proxy) as peer:
            answer = await ask(peer, request("POST", "/k?uploadId=7", b"<x/>", chunked=True))
            assert answer == (200, INTERNAL_ERROR)
    faults.clear()
    async with peer_of(proxy) as peer:
        assert await ask(peer, request("POST", "/k?uploadId=7", b"<x/>")) == (200, b"4")


async def test_expect_100_continue_is_answered_before_the_body(
    web: tuple[FaultProxy, HttpFaults],
) -> None:
    proxy, faults = web
    faults.add(HttpFault(503, SLOW_DOWN))
    head = b"PUT /k HTTP/1.1\r\ncontent-length: 10\r\nExpect: 100-continue\r\n\r\n"
    async with peer_of(proxy) as peer:
        assert await ask(peer, head) == (503, SLOW_DOWN)
