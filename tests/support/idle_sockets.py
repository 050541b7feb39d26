"""A process with many idle WebSockets, each a STOMP session: its own file descriptors and memory.

python -m support.idle_sockets HOST PORT COUNT; tokens as a line of JSON, see `main`.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
from collections.abc import Sequence

AT_ONCE = 50
"""Handshakes: more would only wait in the backlog of the server."""
OPEN_SECONDS = 60.0


def masked(text: str) -> bytes:
    """Return a WebSocket message of a client (RFC 6455, section 5.2), of at most 64 KiB."""
    payload, mask = text.encode(), os.urandom(4)
    hidden = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    size = len(payload)
    head = struct.pack("!BBH", 0x81, 0x80 | 126, size) if size > 125 else bytes([0x81, 0x80 | size])
    return head + mask + hidden


async def opened(host: str, port: int, token: str) -> asyncio.StreamReader:
    """Open a session that hears about all jobs of the user; return what it receives."""
    reader, writer = await asyncio.open_connection(host, port, limit=16 * 1024)
    _KEPT.append(writer)
    lines = [
        "GET /ws HTTP/1.1",
        f"Host: {host}:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Protocol: v12.stomp",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in head.partition(b"\r\n")[0]:
        raise RuntimeError(f"no WebSocket: {head!r}")
    connect = f"CONNECT\naccept-version:1.2\nhost:sluice\nAuthorization:Bearer {token}\n\n\0"
    writer.write(masked(connect))
    frame = await reader.readuntil(b"\0")
    if b"CONNECTED" not in frame:
        raise RuntimeError(f"no session: {frame!r}")
    subscribe = "SUBSCRIBE\nid:0\ndestination:/user/queue/progress\nreceipt:r\n\n\0"
    writer.write(masked(subscribe))
    while b"RECEIPT" not in (frame := await reader.readuntil(b"\0")):
        if b"ERROR" in frame:
            raise RuntimeError(f"no subscription: {frame!r}")
    return reader


_KEPT: list[asyncio.StreamWriter] = []
"""Writers, which would close their sockets when nothing refers to them."""


async def main(host: str, port: int, count: int, tokens: Sequence[str]) -> None:
    """Open the sockets, print their number, wait for a line, print how many are still open."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> asyncio.StreamReader:
        async with room, asyncio.timeout(OPEN_SECONDS):
            return await opened(host, port, tokens[number % len(tokens)])

    readers = await asyncio.gather(*(one(number) for number in range(count)))
    _print(len(readers))
    await asyncio.to_thread(sys.stdin.readline)
    _print(sum(not reader.at_eof() and reader.exception() is None for reader in readers))


def _print(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    asyncio.run(main(host, port, count, json.loads(sys.stdin.readline())))
