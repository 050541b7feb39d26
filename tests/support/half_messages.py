"""An HTTP/2 client that leaves its messages incomplete, which gRPC's own cannot do."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 4, 5
_FIRST_WINDOW_BYTES = 65_535
"""Constants of RFC 9113, section 6."""
_PREFIX = struct.Struct(">?I")
"""gRPC's message prefix: the compression flag and the length."""


class HalfMessages:
    """One connection with calls whose messages stay incomplete."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sent: dict[int, int] = {}
        """Message bytes sent, by stream."""
        self.has_settings = asyncio.Event()
        self.ended: set[int] = set()
        """Streams that the server ended."""
        self.headers: dict[int, bytes] = {}
        """What the server's headers and trailers of a stream hold, as HPACK."""
        self._reader = reader
        self._writer = writer
        self._windows = {0: _FIRST_WINDOW_BYTES}
        self._initial_window = _FIRST_WINDOW_BYTES
        self._max_frame = 16_384
        self._changed = asyncio.Event()

    @property
    def open_bytes(self) -> int:
        """Bytes sent on calls that the server has not ended."""
        return sum(size for stream, size in self.sent.items() if stream not in self.ended)

    async def begin(self, path: str, calls: int, announced_bytes: int) -> None:
        """Open calls and send each message without its last byte, as far as flow control permits.

        Return once the server accepts no more.
        """
        first = max(self._windows) + 1 | 1
        streams = range(first, first + 2 * calls, 2)
        left = dict.fromkeys(streams, announced_bytes - 1)
        for stream in streams:
            self._windows[stream] = self._initial_window
            self._frame(_HEADERS, _END_HEADERS, stream, _headers(path))
            prefix = _PREFIX.pack(False, announced_bytes)
            self._spend(stream, len(prefix))
            self._frame(_DATA, 0, stream, prefix)
        while left := {s: n for s, n in left.items() if n and s not in self.ended}:
            if not await self._send_some(left) and not await self._change(seconds=0.5):
                return

    async def call(self, path: str, prefix: bytes, fields: Mapping[str, str]) -> bytes:
        """Make one unary call with this message prefix and these header fields.

        Return the header block fragments of its answer. gRPC's server does not compress its own
        error texts in them (RFC 7541, 6.2.2 without Huffman coding).
        """
        stream = max(self._windows) + 1 | 1
        self._windows[stream] = self._initial_window
        self._frame(_HEADERS, _END_HEADERS, stream, _headers(path, fields))
        self._frame(_DATA, _END_STREAM, stream, prefix)
        async with asyncio.timeout(20):
            while stream not in self.ended:
                self._changed.clear()
                await self._changed.wait()
        return self.headers.get(stream, b"")

    async def _send_some(self, left: dict[int, int]) -> bool:
        progress = False
        for stream, missing in left.items():
            size = min(missing, self._max_frame, self._windows[stream], self._windows[0])
            if size <= 0 or stream in self.ended:
                continue
            self._spend(stream, size)
            self._frame(_DATA, 0, stream, bytes(size))
            left[stream] = missing - size
            self.sent[stream] = self.sent.get(stream, 0) + size
            progress = True
        await self._writer.drain()
        await asyncio.sleep(0)
        return progress

    async def _change(self, seconds: float) -> bool:
        """Wait for a frame from the server; return False if none came."""
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def listen(self) -> None:
        """Read frames until the server closes the connection."""
        while True:
            try:
                head = await self._reader.readexactly(9)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            length = int.from_bytes(head[:3], "big")
            kind, flags = head[3], head[4]
            stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
            self._take(kind, flags, stream, await self._reader.readexactly(length))
            self._changed.set()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            for name, value in struct.iter_unpack(">HI", payload):
                if name == _INITIAL_WINDOW_SIZE:
                    self._initial_window = value
                elif name == _MAX_FRAME_SIZE:
                    self._max_frame = value
            self._frame(_SETTINGS, _ACK, 0, b"")
            self.has_settings.set()
        elif kind == _PING and not flags & _ACK:
            self._frame(_PING, _ACK, 0, payload)
        elif kind == _WINDOW_UPDATE:
            self._windows[stream] = self._windows.get(stream, 0) + int.from_bytes(payload, "big")
        elif kind in (_RST_STREAM, _HEADERS):
            if kind == _HEADERS:
                self.headers[stream] = self.headers.get(stream, b"") + payload
            if kind == _RST_STREAM or flags & _END_STREAM:
                self.ended.add(stream)

    def _spend(self, stream: int, size: int) -> None:
        self._windows[stream] -= size
        self._windows[0] -= size

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
        self._writer.write(head + payload)

    def greet(self) -> None:
        self._writer.write(_PREFACE)
        self._frame(_SETTINGS, 0, 0, b"")


def _headers(path: str, others: Mapping[str, str] | None = None) -> bytes:
    """Encode headers as literals without indexing (RFC 7541, 6.2.2)."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "test",
        "te": "trailers",
        "content-type": "application/grpc",
        **(others or {}),
    }
    encoded = (
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
    return b"".join(encoded)


@asynccontextmanager
async def half_messages(address: str) -> AsyncIterator[HalfMessages]:
    """Open a connection to a gRPC server and wait for its settings."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = HalfMessages(reader, writer)
    connection.greet()
    listening = asyncio.create_task(connection.listen())
    try:
        async with asyncio.timeout(20):
            await connection.has_settings.wait()
        yield connection
    finally:
        listening.cancel()
        writer.close()
