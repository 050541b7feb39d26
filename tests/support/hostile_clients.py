"""A process of hostile connections.

python -m support.hostile_clients INTAKE REPOSITORY NODE_ID CONNECTIONS [KIND …]
"""

from __future__ import annotations

import asyncio
import json
import random
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import grpc.aio

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2 as pb
from sluice.upload.v1.upload_pb2_grpc import IntakeServiceStub

_DATA, _HEADERS, _RST, _SETTINGS, _PING, _WINDOW = 0, 1, 3, 4, 6, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_INTAKE = "/sluice.upload.v1.IntakeService/"
_READ_NODE = "/sluice.repository.v1.RepositoryService/ReadNode"
_CANCEL = 8
_HOLD_SECONDS = 20.0
_WINDOW_BYTES = 60_000
"""Less than the initial window of a stream."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return an HTTP/2 frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _message(body: bytes, length: int | None = None) -> bytes:
    return b"\0" + struct.pack(">I", len(body) if length is None else length) + body


class Connection:
    """One HTTP/2 connection without a client library, none of which sends incomplete messages.

    It reads and discards the server's answers, as far as the kind of client reads at all.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._stream = -1
        self._answers = asyncio.create_task(self._answer())
        self.ended = asyncio.Event()
        self.gives_window = True
        self.acknowledges = True
        """Whether it acknowledges the server's settings, which limit it from then on."""
        self.acknowledged = asyncio.Event()
        self._ended: set[int] = set()
        self._has_ended = asyncio.Condition()

    @classmethod
    async def to(cls, address: str) -> Connection:
        host, port = address.rsplit(":", 1)
        connection = cls(*await asyncio.open_connection(host, int(port)))
        await connection.send(_PREFACE + frame(_SETTINGS, 0, 0))
        return connection

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def call(self, path: str, body: bytes, *, ends: bool) -> None:
        """Start a call with these bytes of its message."""
        self._stream += 2
        self.ended.clear()
        names = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "x"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        )
        block = b"".join(
            b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
            for name, value in names
        )
        await self.send(frame(_HEADERS, _END_HEADERS, self._stream, block))
        await self.data(body, ends=ends)

    async def data(self, body: bytes, *, ends: bool = False) -> None:
        pieces = [body[at : at + 16_384] for at in range(0, len(body), 16_384)] or [b""]
        for number, piece in enumerate(pieces, start=1):
            flags = _END_STREAM if ends and number == len(pieces) else 0
            await self.send(frame(_DATA, flags, self._stream, piece))

    async def reset(self) -> None:
        await self.send(frame(_RST, 0, self._stream, struct.pack(">I", _CANCEL)))

    async def all_ended(self, calls: int) -> None:
        """Wait until the server has ended this many calls."""
        async with self._has_ended:
            await self._has_ended.wait_for(lambda: len(self._ended) >= calls)

    async def close(self) -> None:
        self._answers.cancel()
        self._writer.close()
        with suppress(OSError, asyncio.CancelledError):
            await self._answers

    async def _answer(self) -> None:
        """Read frames and keep the connection alive."""
        try:
            while True:
                head = await self._reader.readexactly(9)
                kind, flags = head[3], head[4]
                stream = int.from_bytes(head[5:9], "big")
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                if kind == _SETTINGS and not flags & _ACK:
                    if self.acknowledges:
                        await self.send(frame(_SETTINGS, _ACK, 0))
                        self.acknowledged.set()
                elif kind == _PING and not flags & _ACK:
                    await self.send(frame(_PING, _ACK, 0, payload))
                elif kind == _DATA and payload and self.gives_window:
                    more = struct.pack(">I", len(payload))
                    await self.send(frame(_WINDOW, 0, 0, more) + frame(_WINDOW, 0, stream, more))
                elif kind == _RST or (kind == _HEADERS and flags & _END_STREAM):
                    self.ended.set()
                    self._ended.add(stream)
                    async with self._has_ended:
                        self._has_ended.notify_all()
        except (OSError, asyncio.IncompleteReadError):
            self.ended.set()


async def _at_most(waiting: Awaitable[object], seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await waiting


class HostileClients:
    """The kinds of hostile clients; each repeats its behaviour."""

    def __init__(self, intake: str, repository: str, node_id: str) -> None:
        self.begun: Counter[str] = Counter()
        self._intake, self._repository, self._node_id = intake, repository, node_id

    async def half_message(self) -> None:
        """Announce a message of 1 MiB and send a part of it."""
        connection = await Connection.to(self._intake)
        try:
            method = random.choice(("UploadChunk", "InitiateUpload", "UploadStream"))
            await connection.call(_INTAKE + method, _message(bytes(30_000), 1 << 20), ends=False)
            await _at_most(connection.ended.wait(), _HOLD_SECONDS)
        finally:
            await connection.close()

    async def slow_reader(self) -> None:
        """Read the first window of a node and stop."""
        connection = await Connection.to(self._repository)
        connection.gives_window = False
        try:
            request = repository_pb2.ReadNodeRequest(node_id=self._node_id)
            await connection.call(_READ_NODE, _message(request.SerializeToString()), ends=True)
            await _at_most(connection.ended.wait(), 60.0)
        finally:
            await connection.close()

    async def field_flood(self) -> None:
        """Send messages of many unknown fields of two bytes each."""
        connection = await Connection.to(self._intake)
        try:
            for _ in range(5):
                flood = b"\xf8\x07\x01" * (_WINDOW_BYTES // 3)
                method = random.choice(("ListUploads", "GetUploadStatus", "UploadStream"))
                await connection.call(_INTAKE + method, _message(flood), ends=True)
                await _at_most(connection.ended.wait(), 10.0)
                await asyncio.sleep(random.uniform(1.0, 3.0))
        finally:
            await connection.close()

    async def resets(self) -> None:
        """Start calls and reset them soon after."""
        connection = await Connection.to(self._intake)
        try:
            for _ in range(10):
                method = random.choice(("UploadStream", "WatchUpload", "UploadChunk"))
                await connection.call(_INTAKE + method, _message(b"\x0a\x00", 1000), ends=False)
                await asyncio.sleep(random.uniform(0.0, 0.5))
                await connection.reset()
        finally:
            await connection.close()

    async def trickle(self) -> None:
        """Announce a chunk of 64 MiB and send 1 KiB of it per second."""
        async with grpc.aio.insecure_channel(self._intake) as channel:
            opened = await IntakeServiceStub(channel).InitiateUpload(
                pb.InitiateUploadRequest(
                    drive="hostile", path=f"{random.getrandbits(64):x}", chunk_size=64 << 20
                )
            )
        connection = await Connection.to(self._intake)
        try:
            header = pb.ChunkHeader(upload_id=opened.upload_id, number=0, size=64 << 20)
            opening = pb.UploadStreamRequest(header=header).SerializeToString()
            await connection.call(_INTAKE + "UploadStream", _message(opening), ends=False)
            piece = _message(pb.UploadStreamRequest(data=bytes(1024)).SerializeToString())
            for _ in range(60):
                if connection.ended.is_set():
                    return
                await connection.data(piece)
                await asyncio.sleep(1.0)
        finally:
            await connection.close()

    async def forever(self, kind: str, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            self.begun[kind] += 1
            with suppress(OSError, grpc.aio.AioRpcError):
                await act()
            await asyncio.sleep(random.uniform(0.1, 0.5))

    def kinds(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "half messages": self.half_message,
            "slow readers": self.slow_reader,
            "field floods": self.field_flood,
            "resets": self.resets,
            "trickles": self.trickle,
        }


async def _main(
    intake: str, repository: str, node_id: str, connections: int, names: Sequence[str]
) -> None:
    """Write `ready` when all connections are busy and run until standard input ends.

    Then write as JSON how often each kind was started.
    """
    clients = HostileClients(intake, repository, node_id)
    acts = clients.kinds()
    kinds = [(name, acts[name]) for name in names or acts]
    tasks = [
        asyncio.create_task(clients.forever(*kinds[number % len(kinds)]))
        for number in range(connections)
    ]
    await asyncio.sleep(1.0)
    _write_line("ready")
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    _write_line(json.dumps(clients.begun))


def _write_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:]))
