"""The INSTREAM command of ClamAV's daemon, which finds its test string and nothing else."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


@dataclass
class Clamd:
    """A daemon; `received` has what clients sent."""

    address: str = ""
    max_bytes: int = 1 << 20
    received: list[bytes] = field(default_factory=list)
    answer: bytes | None = None
    """Sent for any object, if it is set; empty: the connection closes without an answer."""

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        assert await reader.readuntil(b"\0") == b"zINSTREAM\0"
        content = b""
        answer = b"stream: OK\0"
        while length := int.from_bytes(await reader.readexactly(4), "big"):
            content += await reader.readexactly(length)
            if len(content) > self.max_bytes:
                answer = b"INSTREAM size limit exceeded. ERROR\0"
                break
        self.received.append(content)
        if EICAR in content:
            answer = b"stream: Win.Test.EICAR_HDB-1 FOUND\0"
        writer.write(answer if self.answer is None else self.answer)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def clamd() -> AsyncIterator[Clamd]:
    daemon = Clamd()
    server = await asyncio.start_server(daemon.serve, "127.0.0.1", 0)
    async with server:
        daemon.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield daemon
