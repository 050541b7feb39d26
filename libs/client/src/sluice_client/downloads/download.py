"""Reading of nodes: resumed over broken streams, verified, and written to files atomically."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import BinaryIO

from sluice_client.checksums import EMPTY_CRC32C, crc32c
from sluice_client.downloads.destinations import Sink, pour_into_path, write_to
from sluice_client.downloads.repository_api import NodeRef, RepositoryApi
from sluice_client.errors import DataLoss, InvalidArgument, SluiceError, Unavailable
from sluice_client.model import DownloadResult, Node
from sluice_client.progress import Meter, Phase
from sluice_client.retry import Patience

Destination = str | os.PathLike[str] | BinaryIO | None
"""Destination of a download: a path, a binary file object, or None for bytes in the result."""


class NodeReader:
    """The bytes of one node, or of its thumbnail, from `offset` on, at most `length` of them.

    A broken stream is resumed where it broke, by node id, so that all bytes are of one version even
    when the path gets another one meanwhile. Size and CRC32C are verified at the end. The last
    block is yielded before that, and the error raised after it.
    """

    def __init__(
        self,
        repository: RepositoryApi,
        ref: NodeRef,
        offset: int,
        length: int | None,
        patience: Patience,
        stall_seconds: float,
        thumbnail_size: int = 0,
    ) -> None:
        if offset < 0 or (length is not None and length < 0):
            raise InvalidArgument("BAD_RANGE", "offset and length start at 0")
        self._repository = repository
        self._ref = ref
        self._offset = offset
        self._length = length
        self.patience = patience
        self._stall_seconds = stall_seconds
        self._thumbnail_size = thumbnail_size
        self.node: Node | None = None
        """Set with the first block."""
        self.size = 0
        """Bytes yielded so far."""
        self.verified = False
        self._crc = EMPTY_CRC32C

    @property
    def expected_bytes(self) -> int | None:
        """Number of bytes to read, once the node is known."""
        if self.node is None:
            return None
        available = max(0, self.node.size - self._offset)
        return available if self._length is None else min(self._length, available)

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        attempt = 0
        while True:
            before = self.size
            try:
                async with aclosing(self._one_stream()) as stream:
                    async for block in stream:
                        yield block
                self._check()
            except SluiceError as error:
                if error.retryable and self.size == self.expected_bytes:
                    # The stream broke after the last byte: nothing is left to request.
                    self._check()
                    return
                attempt = 0 if self.size > before else attempt + 1
                await self.patience.pause(error, attempt)
            else:
                return

    async def _one_stream(self) -> AsyncGenerator[bytes, None]:
        ref = self._ref if self.node is None else NodeRef(node_id=self.node.node_id)
        length = None if self._length is None else self._length - self.size
        stream = self._repository.read_node(
            ref, self._offset + self.size, length, self._thumbnail_size
        )
        async with aclosing(stream):
            while True:
                try:
                    async with asyncio.timeout(self._stall_seconds):
                        node, block = await anext(stream)
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    raise Unavailable(
                        "STREAM_STALLED", f"no byte came for {self._stall_seconds:.0f} s"
                    ) from error
                self.patience.progressed()
                if self.node is None:
                    self.node = node
                if block:
                    self.size += len(block)
                    self._crc = crc32c(block, self._crc)
                    yield block

    def _check(self) -> None:
        """Verify that every byte arrived and that the content matches."""
        node, expected = self.node, self.expected_bytes
        if node is None or expected is None:
            raise Unavailable("STREAM_ENDED", "the server sent nothing")
        if self.size < expected:
            raise Unavailable("STREAM_ENDED", "the server ended the stream before the last byte")
        if self._offset == 0 and expected == node.size:
            if self.size != node.size or self._crc != node.crc32c:
                raise DataLoss(
                    "CHECKSUM_MISMATCH",
                    f"{node.drive}:{node.path} arrived with other bytes than were stored;"
                    " read it again",
                    metadata={"node_id": node.node_id},
                )
            self.verified = True


async def download(reader: NodeReader, destination: Destination, meter: Meter) -> DownloadResult:
    """Read all of `reader` into the destination.

    A path that is free or names a regular file is written as a temporary file beside it and renamed
    when every byte is verified, so that no reader sees a part of it; a failure leaves nothing
    behind. Any other existing file is written into; see `destinations`.
    """
    started = time.monotonic()
    reader.patience.on_wait = meter.wait_for_retry
    data: bytes | None = None
    if destination is None:
        pieces: list[bytes] = []
        await _pour(reader, _append_to(pieces), meter)
        data = b"".join(pieces)
    elif isinstance(destination, str | os.PathLike):
        await pour_into_path(
            destination,
            lambda sink: _pour(reader, sink, meter),
            lambda: meter.wait(Phase.WAITING, "a reader of the pipe", 0.0),
        )
    else:
        await _pour(reader, write_to(destination), meter)
    assert reader.node is not None
    meter.enter(Phase.DONE)
    return DownloadResult(
        node=reader.node,
        size=reader.size,
        verified=reader.verified,
        data=data,
        seconds=time.monotonic() - started,
    )


async def _pour(reader: NodeReader, sink: Sink, meter: Meter) -> None:
    async with aclosing(reader.blocks()) as blocks:
        async for block in blocks:
            meter.total_bytes = reader.expected_bytes
            await sink(block)
            meter.accepted(len(block))


def _append_to(pieces: list[bytes]) -> Sink:
    async def append(block: bytes) -> None:
        pieces.append(block)

    return append
