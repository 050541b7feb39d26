"""Payload of a load generator: wire messages that are serialized once and sent often."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from awscrt.checksums import crc32c

from sluice.upload.v1 import upload_pb2


@dataclass(frozen=True, slots=True)
class Content:
    """Content of one chunk: `data` as a whole, `blocks` as messages of a stream."""

    data: bytes
    crc32c: int
    blocks: Sequence[bytes]

    @staticmethod
    def of(data: bytes, block_bytes: int) -> Content:
        blocks = [
            upload_pb2.UploadStreamRequest(data=data[at : at + block_bytes]).SerializeToString()
            for at in range(0, len(data), block_bytes)
        ]
        return Content(data, crc32c(data), blocks)

    def header(self, upload_id: str, number: int) -> bytes:
        chunk = upload_pb2.ChunkHeader(
            upload_id=upload_id, number=number, size=len(self.data), crc32c=self.crc32c
        )
        return upload_pb2.UploadStreamRequest(header=chunk).SerializeToString()

    def unary(self, upload_id: str, number: int) -> bytes:
        return upload_pb2.UploadChunkRequest(
            upload_id=upload_id, number=number, data=self.data, crc32c=self.crc32c
        ).SerializeToString()


class Payload:
    """Contents of equal size, chosen by the number of the chunk.

    `source`: "random" and "zeros" are one content for all chunks; "file:PATH" cycles through the
    whole chunks of a file, which is kept in memory.
    """

    def __init__(self, source: str, chunk_bytes: int, block_bytes: int) -> None:
        self.chunk_bytes = chunk_bytes
        self._contents = [Content.of(data, block_bytes) for data in _chunks(source, chunk_bytes)]
        if not self._contents:
            raise ValueError(f"{source} has no whole chunk of {chunk_bytes} bytes")

    def content(self, number: int) -> Content:
        return self._contents[number % len(self._contents)]


def _chunks(source: str, chunk_bytes: int) -> Iterator[bytes]:
    kind, _, path = source.partition(":")
    match kind:
        case "random":
            yield os.urandom(chunk_bytes)
        case "zeros":
            yield bytes(chunk_bytes)
        case "file":
            with Path(path).open("rb") as file:
                for _ in range(Path(path).stat().st_size // chunk_bytes):
                    yield file.read(chunk_bytes)
        case _:
            raise ValueError(f"{source!r} is none of random, zeros, file:PATH")
