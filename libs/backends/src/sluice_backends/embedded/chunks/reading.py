"""Verified reads of stored chunks. Blocks."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from pathlib import Path

from sluice_backends.disk import SMALL_BYTES
from sluice_backends.embedded.chunks.folders import UploadFolders
from sluice_backends.embedded.chunks.packs import ChunkPacks, Place
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_core.uploads.chunk_checks import check_chunk, chunk_missing
from sluice_core.uploads.model import MAX_BLOCK_BYTES, ChunkRef


def read_blocks(
    folders: UploadFolders, packs: ChunkPacks, upload_id: str, chunks: Sequence[ChunkRef]
) -> Generator[bytes, None, None]:
    """Yield the bytes of the chunks in order, small chunks joined to blocks of MAX_BLOCK_BYTES.

    A small chunk is verified before its first byte is yielded, a large one at its end.
    """
    folder = folders.folder(upload_id)
    pending: list[bytes] = []
    pending_bytes = 0
    with _PackReader() as reader:
        for chunk in chunks:
            place = packs.find(upload_id, chunk.token) if chunk.size <= SMALL_BYTES else None
            blocks = (
                _read_file(folder / chunk.token, packs, upload_id, chunk)
                if place is None
                else (reader.read(place, chunk),)
            )
            for block in blocks:
                if pending_bytes + len(block) > MAX_BLOCK_BYTES:
                    yield b"".join(pending)
                    pending.clear()
                    pending_bytes = 0
                pending.append(block)
                pending_bytes += len(block)
    if pending_bytes:
        yield b"".join(pending)


class _PackReader:
    """Reader that keeps the pack of the last chunk open for the next one."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._fd = -1

    def __enter__(self) -> _PackReader:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    def read(self, place: Place, chunk: ChunkRef) -> bytes:
        if place.path != self._path:
            self._close()
            try:
                self._fd = os.open(place.path, os.O_RDONLY)
            except FileNotFoundError as error:
                raise chunk_missing(chunk) from error
            self._path = place.path
        data = os.pread(self._fd, place.size, place.offset)
        check_chunk(chunk, len(data), crc32c(data))
        return data

    def _close(self) -> None:
        if self._path is not None:
            self._path = None
            os.close(self._fd)


def _read_file(
    path: Path, packs: ChunkPacks, upload_id: str, chunk: ChunkRef
) -> Generator[bytes, None, None]:
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        place = packs.find(upload_id, chunk.token)
        if place is not None:
            # Always raises: a pack holds small chunks only, so the size differs.
            check_chunk(chunk, place.size, chunk.crc32c)
        raise chunk_missing(chunk) from error
    try:
        # The length is known in advance: yield no bytes of a chunk with another length.
        check_chunk(chunk, os.fstat(fd).st_size, chunk.crc32c)
        size, crc = 0, EMPTY_CRC32C
        while block := os.read(fd, MAX_BLOCK_BYTES):
            size += len(block)
            crc = crc32c(block, crc)
            yield block
        check_chunk(chunk, size, crc)
    finally:
        os.close(fd)
