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
from contextlib import suppress
from dataclasses import dataclass

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
"""Opcodes (RFC 6455, section 5.2)."""
AT_ONCE = 50
"""Handshakes: more would only wait in the backlog of the server."""
OPEN_SECONDS = 60.0


def masked(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return a WebSocket message of a client (RFC 6455, section 5.2), of at most 64 KiB."""
    mask, size = os.urandom(4), len(payload)
    hidden = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    length = struct.pack("!BH", 0x80 | 126, size) if size > 125 else bytes([0x80 | size])
    return bytes([0x80 | opcode]) + length + mask + hidden


@dataclass
class Socket:
    """A WebSocket that answers pings, as every client does by itself."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def next_message(self) -> bytes:
        """Return the next message. Raise `EOFError` at the end of the connection."""
        while True:
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            payload = await self.reader.readexactly(size)
            opcode = first & 0x0F
            if opcode == CLOSE:
                raise EOFError(payload)
            if opcode == PING:
                self.writer.write(masked(payload, PONG))
            else:
                return payload

    async def until(self, command: bytes) -> None:
        """Wait for a frame of STOMP. Raise RuntimeError for an ERROR."""
        while command not in (message := await self.next_message()):
            if b"ERROR" in message:
                raise RuntimeError(f"no {command!r}: {message!r}")

    async def stay(self) -> None:
        """Read until the connection ends."""
        with suppress(EOFError, ConnectionError):
            while True:
                await self.next_message()


async def opened(host: str, port: int, token: str) -> Socket:
    """Open a session that hears about all jobs of the user, and asks for no heart-beats."""
    session = await connected(host, port, token)
    session.writer.write(
        masked(b"SUBSCRIBE\nid:0\ndestination:/user/queue/progress\nreceipt:r\n\n\0")
    )
    await session.until(b"RECEIPT")
    return session


async def snapshots_read(host: str, port: int, token: str) -> None:
    """Wait until the gateway has read the snapshots that sessions before have asked for.

    To see whether the job exists takes a turn behind theirs.
    """
    session = await connected(host, port, token)
    session.writer.write(masked(b"SUBSCRIBE\nid:0\ndestination:/topic/job/none\n\n\0"))
    message = await session.next_message()
    if b"JOB_NOT_FOUND" not in message:
        raise RuntimeError(f"no refusal: {message!r}")
    session.writer.close()


async def connected(host: str, port: int, token: str) -> Socket:
    """Open a session."""
    reader, writer = await asyncio.open_connection(host, port, limit=16 * 1024)
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
    session = Socket(reader, writer)
    connect = f"CONNECT\naccept-version:1.2\nhost:sluice\nAuthorization:Bearer {token}\n\n\0"
    writer.write(masked(connect.encode()))
    await session.until(b"CONNECTED")
    return session


async def main(host: str, port: int, count: int, tokens: Sequence[str]) -> None:
    """Open the sockets, print their number, wait for a line, print how many are still open.

    Args:
        tokens: of the users that share the sockets, and of one more.
    """
    *users, other = tokens
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> asyncio.Task[None]:
        async with room, asyncio.timeout(OPEN_SECONDS):
            session = await opened(host, port, users[number % len(users)])
        return asyncio.create_task(session.stay())

    staying = await asyncio.gather(*(one(number) for number in range(count)))
    await snapshots_read(host, port, other)
    _print(len(staying))
    await asyncio.to_thread(sys.stdin.readline)
    _print(sum(not each.done() for each in staying))


def _print(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    asyncio.run(main(host, port, count, json.loads(sys.stdin.readline())))
