"""Fault proxy in front of an HTTP service: failed requests, every other one untouched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.http_faults import INTERNAL_ERROR, SLOW_DOWN, HttpFault, HttpFaults
from support.proxy import FaultProxy
from support.proxy_peers import Peer, listening, peer_of


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
