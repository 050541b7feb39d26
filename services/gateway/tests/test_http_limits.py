"""Limits of requests: sizes, times, and shapes that smuggle a second request."""

# Size: one test or two for each limit of the listener; they share its requests

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from sluice_core.addresses import Address
from sluice_gateway import app
from sluice_gateway.app import MAX_AUTH_BODY_BYTES
from sluice_gateway.auth.guess_limits import GuessRates
from sluice_gateway.http import protocol
from sluice_gateway.http.server import bind
from sluice_gateway.http.shares import FairShares
from support.gateway import ANN, BOB, Gateway, received, running_gateway
from support.waiting import until

LOGIN = "/api/auth/login"
JOBS = "/commands/upload-jobs"
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


async def _with_token(gateway: Gateway, credentials: Mapping[str, str] = ANN) -> dict[str, str]:
    session = await gateway.register(credentials)
    return {**JSON, "authorization": f"Bearer {session['token']}"}


async def test_body_of_the_largest_size_is_read(gateway: Gateway) -> None:
    headers = await _with_token(gateway)
    reply = await gateway.call("POST", JOBS, data=BytesIO(_padded(MAX_BYTES)), headers=headers)
    assert (reply.status, reply.reason) == (422, "INVALID_REQUEST")


async def test_declared_large_body_is_refused(gateway: Gateway) -> None:
    reply = await gateway.call("POST", JOBS, data=BytesIO(_padded(MAX_BYTES + 1)), headers=JSON)
    assert (reply.status, reply.reason) == (413, "MESSAGE_TOO_LARGE")
    assert reply.json()["metadata"] == {"max_bytes": str(MAX_BYTES)}
    assert reply.headers["connection"] == "close"


async def test_chunked_large_body_is_refused(gateway: Gateway) -> None:
    """It declares no size, so it is counted while it is read."""

    async def body() -> AsyncIterator[bytes]:
        yield _padded(MAX_BYTES)
        yield b" "

    headers = await _with_token(gateway)
    reply = await gateway.call("POST", JOBS, data=body(), headers=headers)
    assert (reply.status, reply.reason) == (413, "MESSAGE_TOO_LARGE")


async def test_body_of_a_stranger_is_small(gateway: Gateway) -> None:
    """Nobody needs a token to send a password, which is short."""
    size = MAX_AUTH_BODY_BYTES
    reply = await gateway.call("POST", LOGIN, data=_padded(size), headers=JSON)
    assert reply.reason == "WRONG_CREDENTIALS"
    reply = await gateway.call("POST", LOGIN, data=_padded(size + 1), headers=JSON)
    assert (reply.status, reply.reason) == (413, "MESSAGE_TOO_LARGE")


@pytest.mark.parametrize("path", ["/commands/upload-jobs", "/commands/photos/ph_x/tags"])
async def test_caller_is_checked_before_the_body(
    gateway: Gateway, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers cannot have the server read, parse and validate: this body never arrives."""
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 0.05)
    request = _request(gateway, "content-length: 900000", "authorization: Bearer x.y.z")
    answer = await gateway.raw(request.replace(LOGIN.encode(), path.encode()))
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("{" + ",".join(f'"{number:x}":0' for number in range(100_000)) + "}", 400),
        ("[" + "0," * 400_000 + "0]", 400),
        ('{"files":[' + ",".join(["{}"] * 90_000) + "]}", 422),
    ],
    ids=["members", "values", "items"],
)
async def test_invalid_body_has_few_errors(gateway: Gateway, body: str, status: int) -> None:
    """Each error is an object that is made on the event loop."""
    made = 0

    def count(errors: Sequence[object]) -> Any:
        nonlocal made
        made += len(errors)
        return field_problems(errors)

    field_problems = app._field_problems
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "_field_problems", count)
        headers = await _with_token(gateway)
        reply = await gateway.call("POST", JOBS, data=body, headers=headers)
    assert reply.status == status
    assert made < 100


async def test_uninvited_body_is_never_invited(gateway: Gateway) -> None:
    """A client that asks before it sends is refused before it has sent 300 MB."""
    for path, length, status in ((LOGIN, 300_000_000, b"413"), (JOBS, 1000, b"401")):
        headers = (f"content-length: {length}", "expect: 100-continue")
        request = _request(gateway, *headers, "authorization: Bearer x.y.z")
        answer = await gateway.raw(request.replace(LOGIN.encode(), path.encode()))
        assert answer.startswith(b"HTTP/1.1 %s " % status), answer[:100]
        assert b"connection: close\r\n" in answer


async def test_invited_body_is_read(gateway: Gateway) -> None:
    request = _request(gateway, "content-length: 200", "expect: 100-continue", "connection: close")
    answer = await gateway.raw(request, _padded(200))
    assert answer.startswith(b"HTTP/1.1 100 ")
    assert b"HTTP/1.1 401 " in answer


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


async def test_bodies_of_one_tenant_leave_room(tmp_path: Path) -> None:
    """Slow senders hold a share of the memory; others, and strangers, have theirs."""
    async with running_gateway(
        tmp_path,
        change=lambda options: replace(
            options, max_bodies_bytes=100_000, guess_rates=GuessRates(0, 0, 0)
        ),
    ) as gateway:
        ann, bob = await _with_token(gateway, ANN), await _with_token(gateway, BOB)
        request = _request(
            gateway, "content-length: 40000", f"authorization: {ann['authorization']}"
        )
        _, held = await asyncio.open_connection(gateway.address.host, gateway.address.port)
        held.write(request.replace(LOGIN.encode(), JOBS.encode()) + b" " * 30_000)
        body = _padded(30_000)

        async def answer_of(headers: Mapping[str, str]) -> tuple[int, str]:
            reply = await gateway.call("POST", JOBS, data=body, headers=headers)
            return reply.status, reply.reason

        async def is_refused() -> bool:
            return await answer_of(ann) == (503, "UNFINISHED_MESSAGES")

        await until(is_refused)
        assert await answer_of(bob) == (422, "INVALID_REQUEST")
        small = await gateway.call("POST", LOGIN, data=_padded(200), headers=JSON)
        assert small.status == 200
        held.close()

        async def is_admitted() -> bool:
            return (await answer_of(ann))[0] == 422

        await until(is_admitted)


async def test_bodies_of_strangers_leave_room(tmp_path: Path) -> None:
    """However many connections they open."""
    async with running_gateway(
        tmp_path,
        change=lambda options: replace(
            options, max_bodies_bytes=100_000, guess_rates=GuessRates(0, 0, 0)
        ),
    ) as gateway:
        ann = await _with_token(gateway)
        held = []
        for _ in range(64):
            _, writer = await asyncio.open_connection(gateway.address.host, gateway.address.port)
            writer.write(_request(gateway, "content-length: 10000") + b" " * 9_000)
            held.append(writer)

        async def is_refused() -> bool:
            reply = await gateway.call("POST", LOGIN, data=_padded(9_000), headers=JSON)
            return reply.status == 503

        await until(is_refused)
        reply = await gateway.call("POST", JOBS, data=_padded(40_000), headers=ann)
        assert (reply.status, reply.reason) == (422, "INVALID_REQUEST")
        for writer in held:
            writer.close()


def test_holders_share_what_is_free() -> None:
    """One has half, and whoever comes late still gets something."""
    shares = FairShares(128)

    def most(holder: str) -> int:
        return sum(shares.take(holder, 1) for _ in range(128))

    assert [most(str(number)) for number in range(4)] == [64, 32, 16, 8]
    shares.release("0", 64)
    assert most("4") == 36


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
    writer.write(_request(hasty, "content-length: 10000"))

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
