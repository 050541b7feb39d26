"""Sources of an upload's bytes, cut into chunks of equal size."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Protocol

from sluice_client.blocks import BlockPool
from sluice_client.checksums import Block, crc32c, crc32c_of_blocks
from sluice_client.errors import InvalidArgument, SourceChanged, SourceNotRepeatable
from sluice_client.local_files import descriptor_blocks, named_descriptor, open_for_reading
from sluice_client.model import BLOCK_BYTES, FileIdentity
from sluice_client.tasks import in_thread

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | AsyncIterator[bytes]
"""Argument of `Client.upload`: a path, bytes, a binary file object, or an async iterator."""


@dataclass(slots=True)
class Chunk:
    """One chunk in memory. Its reader calls `ChunkSource.sent` when its blocks are free."""

    number: int
    size: int
    crc32c: int
    is_last: bool
    blocks: list[memoryview] = field(repr=False)


class ChunkSource(Protocol):
    """Chunks by number; `size` is None while it is unknown.

    A repeatable source provides any chunk any number of times. A one-way source provides them in
    order, once: a chunk stays in memory until the server has accepted it, so an upload from it
    cannot survive the loss of the server's ledger, nor be resumed by another process.
    """

    @property
    def size(self) -> int | None: ...

    @property
    def repeatable(self) -> bool: ...

    async def read(self, number: int, chunk_size: int) -> Chunk | None:
        """Return the chunk, or None when the source has no chunk of this number.

        Raise SourceChanged, SourceNotRepeatable, OSError.
        """
        ...

    def sent(self, chunk: Chunk) -> None:
        """Release the blocks of this chunk for this attempt."""
        ...

    def forget(self, number: int) -> None:
        """Release the chunk: the server has accepted it."""
        ...

    async def check_unchanged(self) -> None:
        """Raise SourceChanged when the source differs from when it was opened."""
        ...


class FileSource:
    """Regular file from byte `start` on, read by position: any number of concurrent readers."""

    repeatable = True

    def __init__(self, descriptor: int, name: str, pool: BlockPool, start: int = 0) -> None:
        self._descriptor = descriptor
        self._name = name
        self._pool = pool
        self._start = start
        self._in_one_piece = False
        """The file was read by one call, and checked right after that."""
        status = os.fstat(descriptor)
        self.identity = FileIdentity.of(status)
        self._links = status.st_nlink

    @property
    def size(self) -> int:
        return max(0, self.identity.size - self._start)

    async def read(self, number: int, chunk_size: int) -> Chunk | None:
        offset = number * chunk_size
        if offset >= self.size:
            return None
        size = min(chunk_size, self.size - offset)
        blocks = self._pool.take(size)
        crc = await in_thread(self._fill, blocks, self._start + offset, whole=size == self.size)
        return Chunk(number, size, crc, offset + size == self.size, blocks)

    def sent(self, chunk: Chunk) -> None:
        self._pool.give_back(chunk.blocks)

    def forget(self, number: int) -> None:
        """No-op: the file keeps every chunk."""

    async def check_unchanged(self) -> None:
        if not self._in_one_piece:
            await in_thread(self._check_identity)

    def read_whole(self) -> bytes:
        """Return all of a small file. Blocking."""
        data = os.pread(self._descriptor, self.size + 1, self._start)
        if len(data) != self.size:
            raise self._changed()
        self._check_identity()
        return data

    def _fill(self, blocks: list[memoryview], offset: int, *, whole: bool) -> int:
        """Fill every block and return the CRC32C of them all. Blocking."""
        for block in blocks:
            filled = 0
            while filled < len(block):
                count = os.preadv(self._descriptor, [block[filled:]], offset + filled)
                if count == 0:
                    raise self._changed()
                filled += count
            offset += filled
        if whole:
            self._check_identity()
            self._in_one_piece = True
        return crc32c_of_blocks(blocks)

    def _check_identity(self) -> None:
        status = os.fstat(self._descriptor)
        now = FileIdentity.of(status)
        if status.st_nlink != self._links:
            # A hard link or a rename over the file changes only the change time; the content read
            # here is the same.
            now = replace(now, ctime_ns=self.identity.ctime_ns)
        if now != self.identity:
            raise self._changed()

    def _changed(self) -> SourceChanged:
        return SourceChanged(
            "SOURCE_CHANGED",
            f"{self._name} changed while it was being uploaded; upload it again when it is at rest",
        )


class BytesSource:
    """Bytes in memory; nothing is copied."""

    repeatable = True

    def __init__(self, data: Block) -> None:
        self._data = memoryview(data).cast("B").toreadonly()

    @property
    def size(self) -> int:
        return len(self._data)

    @property
    def data(self) -> memoryview:
        return self._data

    async def read(self, number: int, chunk_size: int) -> Chunk | None:
        piece = self._data[number * chunk_size : (number + 1) * chunk_size]
        if not piece:
            return None
        blocks = [piece[at : at + BLOCK_BYTES] for at in range(0, len(piece), BLOCK_BYTES)]
        crc = await in_thread(crc32c, piece)
        return Chunk(number, len(piece), crc, (number + 1) * chunk_size >= self.size, blocks)

    def sent(self, chunk: Chunk) -> None:
        """No-op: the bytes belong to the caller."""

    def forget(self, number: int) -> None:
        """No-op: the caller keeps every chunk."""

    async def check_unchanged(self) -> None:
        """No-op: the caller must not change the bytes; CRC claims detect a change."""


class OneWaySource:
    """Blocks of any size that come once, in order, cut into chunks.

    Holds the bytes that are read and not accepted yet: the sender's window bounds them. Reads one
    chunk ahead, because only then is it known which chunk is the last.
    """

    repeatable = False

    def __init__(self, blocks: AsyncIterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""
        self._cutting: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._held: dict[int, Chunk] = {}
        self._read = 0
        """Chunks cut so far."""
        self._size = 0
        self._ended = False
        self._ahead: list[memoryview] | None = None
        self.sha256 = hashlib.sha256()

    @property
    def size(self) -> int | None:
        """Total size, known once the source has ended."""
        return self._size if self._exhausted else None

    @property
    def _exhausted(self) -> bool:
        return self._ended and self._ahead is None and self._cutting is None

    async def read(self, number: int, chunk_size: int) -> Chunk | None:
        while number not in self._held:
            if number < self._read:
                raise SourceNotRepeatable(
                    "SOURCE_NOT_REPEATABLE",
                    f"the server needs chunk {number} again, but this source can be read only"
                    " once; upload from a file or from bytes to survive this",
                )
            if self._failure is not None:
                raise self._failure
            if self._exhausted:
                return None
            if self._cutting is None:
                self._cutting = asyncio.ensure_future(self._cut(chunk_size))
            # Shared and shielded: a reader that is cancelled, because its stream broke, must not
            # cancel the caller's iterator, which would end it for good.
            await asyncio.shield(self._cutting)
        return self._held[number]

    async def aclose(self) -> None:
        """Stop reading; the iterator stays the caller's."""
        if self._cutting is not None:
            self._cutting.cancel()
            await asyncio.wait([self._cutting])

    def sent(self, chunk: Chunk) -> None:
        """No-op: the bytes stay until the server has accepted them."""

    def forget(self, number: int) -> None:
        self._held.pop(number, None)

    async def check_unchanged(self) -> None:
        """No-op: bytes that were read cannot change."""

    async def whole(self, limit: int) -> bytes | None:
        """Return all of it if it ends within `limit` bytes; else None, and nothing is consumed."""
        pieces = [self._rest]
        size = len(self._rest)
        while size <= limit:
            try:
                piece = await anext(self._blocks)
            except StopAsyncIteration:
                self._ended = True
                self._size = size
                return b"".join(pieces)
            pieces.append(bytes(piece))
            size += len(piece)
        self._rest = b"".join(pieces)
        return None

    async def _cut(self, chunk_size: int) -> None:
        """Make the next chunk available, or record that there is none."""
        try:
            if self._read == 0:
                self._ahead = await self._next_blocks(chunk_size)
            blocks = self._ahead
            if blocks is None:
                return
            self._ahead = await self._next_blocks(chunk_size)
            size = sum(len(block) for block in blocks)
            crc = await in_thread(self._account, blocks)
            self._held[self._read] = Chunk(self._read, size, crc, self._ahead is None, blocks)
            self._read += 1
            self._size += size
        except Exception as error:  # noqa: BLE001 (the caller's iterator may raise anything)
            self._failure = error
        finally:
            self._cutting = None

    def _account(self, blocks: list[memoryview]) -> int:
        for block in blocks:
            self.sha256.update(block)
        return crc32c_of_blocks(blocks)

    async def _next_blocks(self, chunk_size: int) -> list[memoryview] | None:
        blocks: list[memoryview] = []
        lacking = chunk_size
        while lacking > 0:
            if not self._rest:
                if self._ended:
                    break
                try:
                    self._rest = bytes(await anext(self._blocks))
                except StopAsyncIteration:
                    self._ended = True
                continue
            piece = self._rest[: min(lacking, BLOCK_BYTES)]
            self._rest = self._rest[len(piece) :]
            blocks.append(memoryview(piece))
            lacking -= len(piece)
        return blocks or None


async def file_object_blocks(file: BinaryIO) -> AsyncIterator[bytes]:
    """Yield the rest of a binary file object in blocks, each read in a thread."""
    # Not in_thread: the file is the caller's, and a read from a silent pipe may never return.
    while block := await asyncio.to_thread(file.read, BLOCK_BYTES):
        yield block


AnySource = FileSource | BytesSource | OneWaySource


@asynccontextmanager
async def open_source(source: Source, pool: BlockPool) -> AsyncIterator[AnySource]:
    """Open the caller's source; close what was opened here.

    A file object over a regular file is read by position from its current one, without moving it;
    every other one, and a path that names a pipe, a terminal or a device, is read once to its end.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield BytesSource(source)
    elif isinstance(source, str | os.PathLike):
        descriptor = await in_thread(open_for_reading, source)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                start = _position(descriptor) if named_descriptor(source) is not None else 0
                yield FileSource(descriptor, os.fspath(source), pool, start)
            else:
                async with (
                    aclosing(descriptor_blocks(descriptor)) as blocks,
                    aclosing(OneWaySource(blocks)) as stream,
                ):
                    yield stream
        finally:
            os.close(descriptor)
    elif isinstance(source, AsyncIterator):
        async with aclosing(OneWaySource(source)) as one_way:
            yield one_way
    elif callable(getattr(source, "read", None)):
        opened = _from_file_object(source, pool)
        try:
            yield opened
        finally:
            if isinstance(opened, OneWaySource):
                await opened.aclose()
    else:
        raise InvalidArgument(
            "BAD_SOURCE",
            "A source is a path, bytes, a binary file object or an async iterator of bytes.",
        )


async def whole_if_small(source: AnySource, limit: int) -> bytes | None:
    """Return all of a source of at most `limit` bytes, which then fits into InitiateUpload."""
    if isinstance(source, OneWaySource):
        return await source.whole(limit)
    if source.size > limit:
        return None
    if isinstance(source, BytesSource):
        return bytes(source.data)
    return await in_thread(source.read_whole)


async def sha256_of(source: FileSource | BytesSource, chunk_size: int) -> bytes:
    """Return the SHA-256. It needs the bytes in order, unlike parallel streams: one more pass."""
    digest = hashlib.sha256()
    number = 0
    while (chunk := await source.read(number, chunk_size)) is not None:
        for block in chunk.blocks:
            await in_thread(digest.update, block)
        source.sent(chunk)
        number += 1
    return digest.digest()


def _from_file_object(file: BinaryIO, pool: BlockPool) -> AnySource:
    descriptor = _regular_descriptor(file)
    if descriptor is not None:
        return FileSource(descriptor, str(getattr(file, "name", "the file")), pool, file.tell())
    getbuffer: Callable[[], memoryview] | None = getattr(file, "getbuffer", None)
    if getbuffer is not None:
        return BytesSource(getbuffer()[file.tell() :])
    return OneWaySource(file_object_blocks(file))


def _regular_descriptor(file: BinaryIO) -> int | None:
    try:
        descriptor = file.fileno()
    except (OSError, AttributeError):
        return None
    return descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def _position(descriptor: int) -> int:
    """Return the current position of a descriptor that the caller opened."""
    return os.lseek(descriptor, 0, os.SEEK_CUR)
