"""A proxy before a real S3 server that does to single requests what networks and stores do.

It decides at the head of each request, so it lets one request pass through a connection. The host
header stays, for it is signed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

_HEAD_END = b"\r\n\r\n"
_BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request; `target` is path and query."""

    method: str
    target: str
    head: bytes

    @property
    def is_multipart_completion(self) -> bool:
        return self.method == "POST" and "uploadId=" in self.target

    @property
    def is_part(self) -> bool:
        return self.method == "PUT" and "partNumber=" in self.target

    @property
    def expects_continue(self) -> bool:
        """Does the body wait until it is asked for?"""
        return b"\r\nexpect: 100-continue\r\n" in self.head.lower()


class Fault(Protocol):
    """What happens to a request."""

    async def __call__(self, request: Request, client: Stream, store: Stream) -> None: ...


@dataclass(frozen=True, slots=True)
class Stream:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Matches = Callable[[Request], bool]


def any_request(request: Request) -> bool:
    return True


class S3Proxy:
    """`inject` faults; `url` is where the store seems to be."""

    def __init__(self, store_url: str) -> None:
        self._store = urlsplit(store_url)
        self._faults: list[tuple[Fault, Matches, list[int]]] = []
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()
        self.requests: Counter[str] = Counter()
        """How many came, by method."""

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def connections_from_here(self) -> int:
        """How many sockets of this process are connected to the proxy."""
        port = urlsplit(self.url).port
        return sum(_peer_port(int(fd)) == port for fd in os.listdir("/proc/self/fd"))

    def inject(self, fault: Fault, *, times: int = 1, when: Matches = any_request) -> None:
        """The next `times` requests that match suffer this."""
        self._faults.append((fault, when, [times]))

    def heal(self) -> None:
        self._faults.clear()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        client = Stream(reader, writer)
        try:
            # Cancelled by `stop`: asyncio's own callback does not know what to do with that.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(client)
        finally:
            self._handlers.discard(task)
            await _close(client)

    async def _serve(self, client: Stream) -> None:
        head = await client.reader.readuntil(_HEAD_END)
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        request = Request(method, target, head)
        self.requests[method] += 1
        assert self._store.hostname is not None
        store = Stream(*await asyncio.open_connection(self._store.hostname, self._store.port))
        try:
            await self._fault_for(request)(request, client, store)
        finally:
            await _close(store)

    def _fault_for(self, request: Request) -> Fault:
        for fault, when, left in self._faults:
            if left[0] > 0 and when(request):
                left[0] -= 1
                return fault
        return forward


async def forward(request: Request, client: Stream, store: Stream) -> None:
    """No fault: the request goes to the store, and its answer back."""
    await store.write(_closing(request.head))
    async with asyncio.TaskGroup() as group:
        upwards = group.create_task(_pump(client, store))
        await _pump(store, client)
        upwards.cancel()


def answers(status: int, body: bytes = b"", *headers: str) -> Fault:
    """The store's word without the store, before it has seen a byte of the body."""

    async def fault(request: Request, client: Stream, store: Stream) -> None:
        lines = [
            f"HTTP/1.1 {status} Fault",
            "content-type: application/xml",
            f"content-length: {len(body)}",
            "connection: close",
            *headers,
        ]
        sent = b"" if request.method == "HEAD" else body
        await client.write("\r\n".join(lines).encode() + _HEAD_END + sent)

    return fault


def error_body(code: str) -> bytes:
    """As S3 words an error."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>"
    ).encode()


def slow_down(*headers: str) -> Fault:
    return answers(503, error_body("SlowDown"), *headers)


async def resets(request: Request, client: Stream, store: Stream) -> None:
    """The connection breaks before an answer."""
    _reset(client)


async def hangs(request: Request, client: Stream, store: Stream) -> None:
    """Nothing is ever answered."""
    await asyncio.Event().wait()


def takes_no_more(after_bytes: int) -> Fault:
    """The body is read so far, and the rest stays in the network."""

    async def fault(request: Request, client: Stream, store: Stream) -> None:
        if request.expects_continue:
            await client.write(b"HTTP/1.1 100 Continue" + _HEAD_END)
        await client.reader.readexactly(after_bytes)
        await asyncio.Event().wait()

    return fault


async def loses_the_answer(request: Request, client: Stream, store: Stream) -> None:
    """The store does what it is asked, and nobody gets to know."""
    await store.write(_closing(request.head))
    async with asyncio.TaskGroup() as group:
        upwards = group.create_task(_pump(client, store))
        await _final_answer(store)
        upwards.cancel()
    _reset(client)


def breaks_after(answered_bytes: int) -> Fault:
    """The answer ends in the middle."""

    async def fault(request: Request, client: Stream, store: Stream) -> None:
        await store.write(_closing(request.head))
        await client.write(await store.reader.readexactly(answered_bytes))

    return fault


def flips_a_bit(at_byte: int) -> Fault:
    """The body reaches the store with one bit changed."""

    async def fault(request: Request, client: Stream, store: Stream) -> None:
        await store.write(_closing(request.head))
        if request.expects_continue:
            await client.write(await store.reader.readuntil(_HEAD_END))  # 100 Continue
        before = await client.reader.readexactly(at_byte)
        changed = (await client.reader.readexactly(1))[0] ^ 1
        await store.write(before + bytes([changed]))
        async with asyncio.TaskGroup() as group:
            upwards = group.create_task(_pump(client, store))
            await _pump(store, client)
            upwards.cancel()

    return fault


@asynccontextmanager
async def s3_proxy(store_url: str) -> AsyncIterator[S3Proxy]:
    proxy = S3Proxy(store_url)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()


def _peer_port(fd: int) -> int | None:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return None
        with socket.socket(fileno=os.dup(fd)) as duplicate:
            peer = duplicate.getpeername()
    except OSError:
        return None
    return int(peer[1]) if isinstance(peer, tuple) else None


def _closing(head: bytes) -> bytes:
    return head[: -len(b"\r\n")] + b"connection: close" + _HEAD_END


async def _pump(source: Stream, sink: Stream) -> None:
    with suppress(ConnectionError):
        while data := await source.reader.read(_BLOCK):
            await sink.write(data)


async def _final_answer(store: Stream) -> None:
    while (await store.reader.readuntil(_HEAD_END)).startswith(b"HTTP/1.1 100"):
        pass
    await store.reader.read()


def _reset(stream: Stream) -> None:
    raw = stream.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.writer.transport.abort()


async def _close(stream: Stream) -> None:
    stream.writer.close()
    with suppress(ConnectionError):
        await stream.writer.wait_closed()
