"""Chunks in files, for one machine: durable across a killed process, with fsync across power cuts.

The bytes of a chunk lie in ROOT/<shard>/<upload id>/<token>, from their first block to `drop`.
Nothing is renamed when the ledger accepts a chunk: the token in its record is what names the
bytes (rule 1), and a file whose token no record names is a leftover.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from sluice_common.coordination.embedded.folders import UploadFolders
from sluice_common.coordination.embedded.scan import LeftoverScan
from sluice_common.coordination.ports import Block, StagedChunk
from sluice_common.coordination.staging import (
    check_chunk,
    check_name,
    chunk_missing,
    staging_dropped,
)
from sluice_common.disk import DiskThreads, NewFile, sync_directory
from sluice_common.errors import SluiceError
from sluice_common.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_common.uploads.model import MAX_BLOCK_BYTES, ChunkRef

_log = structlog.get_logger(__name__)


class _StagedFile:
    """One chunk on its way to its file; a small one stays in memory until `seal`."""

    def __init__(self, token: str, path: Path, file: NewFile, *, fsync: bool) -> None:
        self._token = token
        self._path = path
        self._file = file
        self._fsync = fsync
        self.sealed = False
        self.dropped = False

    @property
    def token(self) -> str:
        return self._token

    @property
    def has_file(self) -> bool:
        return self._file.created

    async def append(self, block: Block) -> None:
        self._check()
        try:
            await self._file.append(block)
        except SluiceError:
            self._check()  # a folder that went with its upload is no fault of the disk
            raise
        self._check()

    async def seal(self) -> None:
        self._check()
        try:
            await self._file.finish(self._make_name_durable)
        except SluiceError:
            self._check()
            raise
        self._check()
        self.sealed = True

    def _make_name_durable(self) -> None:
        if self._fsync:
            sync_directory(self._path.parent)

    def _check(self) -> None:
        if self.dropped:
            raise staging_dropped()


class FileChunkStore:
    """A `ChunkStore` in a directory tree of one process.

    Args:
        root: made when the first chunk comes.
        fsync: `seal` returns only once file and name are on the disk.
        threads: file operations at once; more of them overlap their waits for fsync.

    Besides the port's errors: `ResourceExhausted` DISK_FULL; its `Unavailable` is
    CHUNK_STORE_UNAVAILABLE.
    """

    def __init__(self, root: Path, *, fsync: bool, threads: int = 8) -> None:
        self._fsync = fsync
        self._folders = UploadFolders(root, fsync=fsync)
        self._scan = LeftoverScan(self._folders)
        self._staged: dict[str, set[_StagedFile]] = {}
        self._threads = DiskThreads(
            "chunks", workers=threads, unavailable="CHUNK_STORE_UNAVAILABLE"
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the store's threads; its files stay."""
        await self._threads.aclose()

    @asynccontextmanager
    async def stage(self, upload_id: str, token: str) -> AsyncIterator[StagedChunk]:
        path = self._path(upload_id, token)
        file = NewFile(self._threads, path, fsync=self._fsync, create=self._folders.create)
        staged = _StagedFile(token, path, file, fsync=self._fsync)
        of_upload = self._staged.setdefault(upload_id, set())
        of_upload.add(staged)
        try:
            yield staged
        finally:
            try:
                if staged.has_file and not staged.sealed:
                    await self._discard(upload_id, token)
            finally:
                of_upload.discard(staged)
                if not of_upload and self._staged.get(upload_id) is of_upload:
                    del self._staged[upload_id]

    async def read(self, upload_id: str, chunk: ChunkRef) -> AsyncIterator[bytes]:
        blocks = _read(self._path(upload_id, chunk.token), chunk)
        if chunk.size <= MAX_BLOCK_BYTES:
            for block in await self._threads.run(list, blocks):
                yield block
            return
        async with aclosing(self._threads.stream(blocks)) as ahead:
            async for block in ahead:
                yield block

    async def drop(self, upload_id: str, tokens: Sequence[str]) -> None:
        for token in tokens:
            check_name(token, "token")
        check_name(upload_id, "upload_id")
        await self._threads.run(self._folders.forget, upload_id, tokens)

    async def drop_upload(self, upload_id: str) -> None:
        check_name(upload_id, "upload_id")
        for staged in self._staged.get(upload_id, ()):
            staged.dropped = True
        await self._threads.run(self._folders.forget_upload, upload_id)

    async def leftovers(
        self, older_than_seconds: float, limit: int
    ) -> Sequence[tuple[str, Sequence[str]]]:
        """As the port says; each call looks at a bounded number of files, going on where the last
        one stopped, so that a huge tree is seen over several calls."""
        return await self._threads.run(self._scan.take, older_than_seconds, limit)

    def _path(self, upload_id: str, token: str) -> Path:
        check_name(token, "token")
        return self._folders.folder(check_name(upload_id, "upload_id")) / token

    async def _discard(self, upload_id: str, token: str) -> None:
        try:
            await self._threads.run(self._folders.forget, upload_id, (token,))
        except SluiceError as error:
            # The sender's own error matters more; the file is a leftover that the sweeper finds.
            _log.warning("staged_chunk_not_removed", upload_id=upload_id, reason=error.reason)


def _read(path: Path, chunk: ChunkRef) -> Generator[bytes, None, None]:
    """The file's blocks, read and verified in a thread."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise chunk_missing(chunk) from error
    try:
        # The length is known beforehand: bytes that cannot be right are not even begun.
        check_chunk(chunk, os.fstat(fd).st_size, chunk.crc32c)
        size, crc = 0, EMPTY_CRC32C
        while block := os.read(fd, MAX_BLOCK_BYTES):
            size += len(block)
            crc = crc32c(block, crc)
            yield block
        check_chunk(chunk, size, crc)
    finally:
        os.close(fd)
