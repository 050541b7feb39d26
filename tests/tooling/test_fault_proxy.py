"""Fault proxy: it injects exactly the configured faults."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from support.network_faults import Faults, Way
from support.proxy import FaultProxy
from support.proxy_peers import SHORT, listening, peer_of
from support.redis_server import RedisServer


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """A proxy in front of an echo service."""
    async with listening(echo) as port, FaultProxy("127.0.0.1", port) as proxy:
        yield proxy


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
