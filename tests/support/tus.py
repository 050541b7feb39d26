"""A client of the tus protocol, and the files that its uploads become."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import grpc.aio

from sluice.repository.v1 import repository_pb2, repository_pb2_grpc
from support.gateway import Gateway, Reply

BODY_TYPE = "application/offset+octet-stream"
RESUMABLE = {"tus-resumable": "1.0.0"}


def encoded(metadata: Mapping[str, str]) -> str:
    """Return `Upload-Metadata`."""
    return ",".join(
        f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in metadata.items()
    )


def checksum_of(body: bytes, algorithm: str = "sha1") -> str:
    """Return `Upload-Checksum`."""
    digest = hashlib.new(algorithm, body).digest()
    return f"{algorithm} {base64.b64encode(digest).decode()}"


@dataclass
class TusClient:
    """Plain requests to one gateway. `token`: of its user, None on a keyless one."""

    gateway: Gateway
    token: str | None = None

    async def send(self, method: str, path: str, **named: Any) -> Reply:
        headers = {**RESUMABLE, **named.pop("headers", {})}
        if self.token is not None:
            headers["authorization"] = f"Bearer {self.token}"
        if isinstance(body := named.get("data"), bytes):
            named["data"] = BytesIO(body)
        present = {name: value for name, value in headers.items() if value is not None}
        return await self.gateway.call(method, path, headers=present, **named)

    async def create(
        self,
        length: int | None = None,
        metadata: Mapping[str, str] | None = None,
        body: bytes | None = None,
        **headers: Any,
    ) -> Reply:
        """Send a POST; underscores in names of headers stand for hyphens."""
        given: dict[str, Any] = _headers(headers)
        if length is not None:
            given.setdefault("upload-length", str(length))
        if metadata:
            given.setdefault("upload-metadata", encoded(metadata))
        if body is not None:
            given.setdefault("content-type", BODY_TYPE)
        return await self.send("POST", "/files", data=body, headers=given)

    async def created(
        self, length: int, metadata: Mapping[str, str] | None = None, **headers: Any
    ) -> str:
        """Create an upload and return its path."""
        reply = await self.create(length, metadata, **headers)
        assert reply.status == 201, reply.content
        return reply.headers["location"]

    async def patch(self, path: str, offset: int, body: Any, **headers: Any) -> Reply:
        given = {"upload-offset": str(offset), "content-type": BODY_TYPE, **_headers(headers)}
        return await self.send("PATCH", path, data=body, headers=given)

    async def head(self, path: str) -> Reply:
        return await self.send("HEAD", path)

    async def offset(self, path: str) -> int:
        """Return the offset at which to continue."""
        reply = await self.head(path)
        assert reply.status == 200, reply.status
        return int(reply.headers["upload-offset"])


async def content_at(repository: str, drive: str, path: str) -> bytes:
    """Return the bytes of a node."""
    async with grpc.aio.insecure_channel(repository) as channel:
        stub = repository_pb2_grpc.RepositoryServiceStub(channel)
        place = repository_pb2.NodePath(drive=drive, path=path)
        request = repository_pb2.ReadNodeRequest(location=place)
        return b"".join([response.data async for response in stub.ReadNode(request)])


async def delete_at(repository: str, drive: str, path: str) -> None:
    """Delete a node."""
    async with grpc.aio.insecure_channel(repository) as channel:
        stub = repository_pb2_grpc.RepositoryServiceStub(channel)
        place = repository_pb2.NodePath(drive=drive, path=path)
        found = await stub.GetNode(repository_pb2.GetNodeRequest(location=place))
        await stub.DeleteNode(repository_pb2.DeleteNodeRequest(node_id=found.node.node_id))


async def node_paths(repository: str, drive: str) -> list[str]:
    """Return the paths of a drive."""
    async with grpc.aio.insecure_channel(repository) as channel:
        stub = repository_pb2_grpc.RepositoryServiceStub(channel)
        answer = await stub.ListNodes(repository_pb2.ListNodesRequest(drive=drive))
        return [node.path for node in answer.nodes]


class CutPatch:
    """A PATCH on a connection of its own, whose body stops before its end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def begin(
        cls, tus: TusClient, path: str, offset: int, size: int, body: bytes, **headers: str
    ) -> CutPatch:
        """Announce `size` bytes and send some of them."""
        address = tus.gateway.address
        reader, writer = await asyncio.open_connection(address.host, address.port)
        lines = (
            f"PATCH {path} HTTP/1.1",
            f"Host: {address}",
            "Tus-Resumable: 1.0.0",
            *((f"Authorization: Bearer {tus.token}",) if tus.token is not None else ()),
            f"Content-Type: {BODY_TYPE}",
            f"Content-Length: {size}",
            f"Upload-Offset: {offset}",
            *(f"{name}: {value}" for name, value in _headers(headers).items()),
        )
        writer.write("\r\n".join((*lines, "", "")).encode("ascii") + body)
        await writer.drain()
        return cls(reader, writer)

    @property
    def is_sent(self) -> bool:
        """Whether the kernel has everything."""
        return self.writer.transport.get_write_buffer_size() == 0

    async def add(self, body: bytes) -> None:
        self.writer.write(body)
        await self.writer.drain()

    async def status(self) -> int:
        """Return the status of the answer."""
        line = await self.reader.readline()
        return int(line.split()[1])

    def reset(self) -> None:
        """End the connection without a farewell."""
        self.writer.transport.abort()


async def finish(tus: TusClient, path: str, content: bytes) -> int:
    """Send what is missing, as clients do: from the offset of HEAD, again after a conflict.

    Return the offset of the first HEAD.
    """
    offset = first = await tus.offset(path)
    async with asyncio.timeout(60):
        while offset < len(content):
            reply = await tus.patch(path, offset, content[offset:])
            assert reply.status in (204, 409), reply.content
            offset = await tus.offset(path)
    return first


def _headers(named: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "-"): value for name, value in named.items()}
