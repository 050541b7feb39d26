"""Limits of requests: sizes, times, and shapes that smuggle a second request."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from sluice_core.addresses import Address
from sluice_gateway.auth.guess_limits import GuessRates
from sluice_gateway.http import protocol
from sluice_gateway.http.server import bind
from support.gateway import ANN, Gateway, received, running_gateway
from support.waiting import until

LOGIN = "/api/auth/login"
JSON = {"content-type": "application/json"}
MAX_BYTES = 1024 * 1024


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that waits for a body for a fifth of a second."""
    async with running_gateway(
        tmp_path, change=lambda options: replace(options, body_seconds=0.2)
    ) as running:
        yield running


def _request(gateway: Gateway, *headers: str, method: str = "POST") -> bytes:
    lines = [f"{method} {LOGIN} HTTP/1.1", f"host: {gateway.address}", *headers]
    return "\r\n".join([*lines, "content-type: application/json", "", ""]).encode("latin-1")


def _padded(size: int) -> bytes:
    body = json.dumps(ANN).encode()
    return body + b" " * (size - len(body))


async def test_body_of_the_largest_size_is_read(gateway: Gateway) -> None:
    reply = await gateway.call("POST", LOGIN, data=BytesIO(_padded(MAX_BYTES)), headers=JSON)
    assert reply.reason == "WRONG_CREDENTIALS"


async def test_declared_large_body_is_refused(gateway: Gateway) -> None:
    reply = await gateway.call("POST", LOGIN, data=BytesIO(_padded(MAX_BYTES + 1)), headers=JSON)
    assert (reply.status, reply.reason) == (413, "MESSAGE_TOO_LARGE")
    assert reply.json()["metadata"] == {"max_bytes": str(MAX_BYTES)}
    assert reply.headers["connection"] == "close"


async def test_chunked_large_body_is_refused(gateway: Gateway) -> None:
    """It declares no size, so it is counted while it is read."""

    async def body() -> AsyncIterator[bytes]:
        yield _padded(MAX_BYTES)
        yield b" "

    reply = await gateway.call("POST", LOGIN, data=body(), headers=JSON)
    assert (reply.status, reply.reason) == (413, "MESSAGE_TOO_LARGE")


async def test_endless_body_is_cut_off(gateway: Gateway) -> None:
    sent = 0

    async def send_for_ever() -> None:
        nonlocal sent
        _, writer = await asyncio.open_connection(gateway.address.host, gateway.address.port)
        try:
            writer.write(_request(gateway, "transfer-encoding: chunked"))
            while True:
                writer.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
                await writer.drain()
                sent += 65536
        finally:
            writer.close()

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(send_for_ever(), 60)
    assert sent < 200 * MAX_BYTES


async def test_bodies_share_a_bounded_memory(tmp_path: Path) -> None:
    """Many slow senders of small bodies hold no more than that."""
    async with running_gateway(
        tmp_path,
        change=lambda options: replace(
            options, max_bodies_bytes=100_000, guess_rates=GuessRates(0, 0, 0)
        ),
    ) as gateway:
        held = []
        for _ in range(3):
            _, writer = await asyncio.open_connection(gateway.address.host, gateway.address.port)
            writer.write(_request(gateway, "content-length: 40000") + b" " * 30_000)
            held.append(writer)
        body = _padded(30_000)

        async def refused() -> bool:
            reply = await gateway.call("POST", LOGIN, data=body, headers=JSON)
            if reply.status != 503:
                return False
            assert reply.reason == "UNFINISHED_MESSAGES"
            assert reply.headers["retry-after"] == "1"
            return True

        await until(refused)
        small = await gateway.call("POST", LOGIN, data=_padded(200), headers=JSON)
        assert small.reason == "WRONG_CREDENTIALS"
        for writer in held:
            writer.close()

        async def admitted() -> bool:
            reply = await gateway.call("POST", LOGIN, data=body, headers=JSON)
            return reply.status == 401

        await until(admitted)


async def test_pipelined_body_may_follow_an_answer(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time limit for unread bodies is not for the body of the next request."""
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 0.05)
    first = f"GET /healthz HTTP/1.1\r\nhost: {gateway.address}\r\n\r\n".encode()
    second = _request(gateway, "content-length: 200", "connection: close")
    reader, writer = await asyncio.open_connection(gateway.address.host, gateway.address.port)
    writer.write(first + second)
    await asyncio.sleep(0.3)  # longer than the limit
    writer.write(_padded(200))
    answer = await received(reader)
    writer.close()
    assert b"HTTP/1.1 401 " in answer


async def test_slow_body_is_refused(hasty: Gateway) -> None:
    answer = await hasty.raw(_request(hasty, "content-length: 100") + b"{")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"reason":"MESSAGE_STALLED"' in answer


async def test_trickled_body_gets_no_more_time(hasty: Gateway) -> None:
    """The time limit is for the whole body, not for each piece of it."""
    reader, writer = await asyncio.open_connection(hasty.address.host, hasty.address.port)
    writer.write(_request(hasty, "content-length: 100000"))

    async def trickle() -> None:
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.02)

    task = asyncio.create_task(trickle())
    try:
        answer = await received(reader)
    finally:
        task.cancel()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("begin", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: a\r\n", b"\r\n\r\n"])
async def test_connection_without_headers_ends(
    gateway: Gateway, begin: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.2)
    assert await gateway.raw(begin) == b""


async def test_slow_headers_of_a_second_request_end(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.3)
    first = f"GET /healthz HTTP/1.1\r\nhost: {gateway.address}\r\n\r\n".encode()
    answer = await gateway.raw(first, b"GET /healthz HTTP/1.1\r\nx-slow: ")
    assert answer.count(b"HTTP/1.1 200 ") == 1


async def test_unread_body_after_an_answer_ends(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that needs no body leaves its sender a limited time."""
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 0.2)
    request = _request(gateway, "content-length: 1000000").replace(LOGIN.encode(), b"/nowhere")
    answer = await gateway.raw(request, b" ")
    assert answer.startswith(b"HTTP/1.1 404 ")


async def test_large_headers_are_refused(gateway: Gateway) -> None:
    for header in ("x: " + "a" * 40_000, "\r\n".join(f"x-{n}: {'a' * 500}" for n in range(100))):
        answer = await gateway.raw(_request(gateway, header, "content-length: 0"))
        assert answer.startswith(b"HTTP/1.1 431 "), answer[:100]
        assert b'"reason":"METADATA_TOO_LARGE"' in answer


async def test_endless_header_is_refused(gateway: Gateway) -> None:
    """It never ends, so that the parser never hands it over."""
    pieces = [b"a" * 65536] * 32
    answer = await gateway.raw(b"GET / HTTP/1.1\r\nx: ", *pieces)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")


async def test_long_path_is_refused(gateway: Gateway) -> None:
    answer = await gateway.raw(b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "headers",
    [
        ("content-length: 4", "transfer-encoding: chunked"),
        ("transfer-encoding: chunked", "content-length: 4"),
        ("content-length: 4", "content-length: 5"),
        ("content-length: 4, 4",),
        ("content-length: +4",),
        ("content-length: -1",),
        ("content-length: 0x4",),
        ("content-length: 99999999999999999999999",),
        ("transfer-encoding: xchunked",),
        ("transfer-encoding: chunked, identity",),
        ("transfer-encoding : chunked",),
        ("content-length : 4",),
        ("transfer-encoding:\x0bchunked",),
        (" content-length: 4",),
    ],
    ids=lambda headers: "+".join(headers),
)
async def test_smuggling_shapes_are_refused(gateway: Gateway, headers: tuple[str, ...]) -> None:
    """A proxy may see another end of the body: the second request must not be answered."""
    hidden = f"GET /healthz HTTP/1.1\r\nhost: {gateway.address}\r\n\r\n".encode()
    answer = await gateway.raw(_request(gateway, *headers) + b"0\r\n\r\n" + hidden)
    # Some are found after the first request has begun; then the connection ends without an answer.
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 "), answer[:200]
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert b"alive" not in answer


@pytest.mark.parametrize(
    "begin",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"\0" * 99,
    ],
    ids=["tls", "http2", "no-path", "zeros"],
)
async def test_other_protocols_are_refused(gateway: Gateway, begin: bytes) -> None:
    answer = await gateway.raw(begin)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"reason":"MALFORMED_MESSAGE"' in answer


async def test_refusal_does_not_mix_with_an_answer(gateway: Gateway) -> None:
    """Garbage behind a request whose answer is under way ends the connection alone."""
    request = f"GET /healthz HTTP/1.1\r\nhost: {gateway.address}\r\n\r\n".encode()
    answer = await gateway.raw(request + b"\0\0\0\0")
    assert answer.count(b"HTTP/1.1 ") <= 1


async def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    host = f"host: {gateway.address}\r\n".encode()
    answer = await gateway.raw(
        b"GET /healthz HTTP/1.1\r\n" + host + b"\r\n"
        b"GET /nowhere HTTP/1.1\r\n" + host + b"connection: close\r\n\r\n"
    )
    assert answer.index(b"HTTP/1.1 200 ") < answer.index(b"HTTP/1.1 404 ")


async def test_idle_connections_do_not_delay_others(gateway: Gateway) -> None:
    idle = [
        await asyncio.open_connection(gateway.address.host, gateway.address.port)
        for _ in range(300)
    ]
    assert (await gateway.get("/healthz")).status == 200
    for _, writer in idle:
        writer.close()


def test_connections_end_soon_after_their_peer() -> None:
    """What the kernel does for an accepted connection when nothing is acknowledged any more."""
    listener = bind("SLUICE_GATEWAY_ADDRESS", Address("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            option = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert option == 60_000
