"""An HTTP/1.1 client that sends exactly what a test says: half bodies, odd paths, wrong headers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

_ANSWER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RawResponse:
    """Status, headers (names in lower case) and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def problem(self) -> Any:
        return json.loads(self.body)


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def connected(cls, port: int) -> AsyncIterator[Self]:
        """Open a connection, and close it at the end of the block."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        client = cls(reader, writer)
        try:
            yield client
        finally:
            client.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def send_head(self, method: str, url: str, headers: Mapping[str, str]) -> None:
        """Send the request line and the headers.

        Args:
            url: a whole URL, or a path with its query, which is sent unchanged.
        """
        if "://" in url:
            parts = urlsplit(url)
            url = f"{parts.path}?{parts.query}"
        lines = [f"{method} {url} HTTP/1.1", "host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def send(self, data: bytes) -> None:
        """Send bytes; a server that has closed the connection is no error."""
        self._writer.write(data)
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    async def response(self) -> RawResponse:
        """Return the next answer."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *lines = head.strip().split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines)
            }
            length = int(headers.get("content-length", "0"))
            body = await self._reader.readexactly(length)
        return RawResponse(int(status_line.split(" ")[1]), headers, body)

    async def read(self, length: int) -> bytes:
        """Return the next bytes of a body; fewer at the end of the connection."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await self._reader.read(length)

    async def head(self) -> RawResponse:
        """Return the head of the next answer; its body stays unread."""
        async with asyncio.timeout(_ANSWER_SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        return RawResponse(int(head.split(" ")[1]), {}, b"")

    async def is_closed(self) -> bool:
        """Wait until the server closes the connection; False if it sends more."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._reader.read(1) == b""
        except ConnectionError:
            return True

    def abort(self) -> None:
        """Close the connection at once, as a client that vanishes."""
        self._writer.transport.abort()
