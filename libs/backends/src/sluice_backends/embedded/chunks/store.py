"""Chunk store in files of one machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import structlog

from sluice_backends.disk import DiskStore, DiskThreads, NewFile, sync_directory
from sluice_backends.embedded.chunks.folders import UploadFolders
from sluice_backends.embedded.chunks.packs import ChunkPacks
from sluice_backends.embedded.chunks.reading import read_blocks
from sluice_backends.embedded.chunks.scan import LeftoverScan
from sluice_core.errors import SluiceError
from sluice_core.ports import Block, ChunkOffer, StagedChunk
from sluice_core.uploads.chunk_checks import check_name, staging_dropped, token_in_use
from sluice_core.uploads.model import MAX_BLOCK_BYTES, ChunkRef

_log = structlog.get_logger(__name__)


class _StagedFile:
    """Chunk being received; a small one stays in memory until `seal` adds it to a pack."""

    def __init__(
        self,
        threads: DiskThreads,
        packs: ChunkPacks,
        file: NewFile,
        name_durable: Callable[[], None],
        upload_id: str,
        token: str,
    ) -> None:
        self._threads = threads
        self._packs = packs
        self._file = file
        self._name_durable = name_durable
        self._upload_id = upload_id
        self._token = token
        self._packed = False
        self.sealed = False
        self.dropped = False

    @property
    def token(self) -> str:
        return self._token

    @property
    def may_be_stored(self) -> bool:
        """Whether the store may hold bytes of this attempt."""
        return self._packed or self._file.created

    async def append(self, block: Block) -> None:
        self._check()
        try:
            await self._file.append(block)
        except SluiceError:
            self._check()  # a folder removed with its upload is not a disk error
            raise
        self._check()

    async def keep(self) -> None:
        """No-op: staged bytes live as long as their sender."""

    async def seal(self) -> None:
        self._check()
        try:
            if self._file.created:
                await self._file.finish(self._name_durable)
            else:
                await self._pack()
        except SluiceError:
            self._check()
            raise
        self._check()
        self.sealed = True

    async def _pack(self) -> None:
        batch = self._packs.add(self._upload_id, self._token, self._file.buffer)
        self._packed = True
        try:
            await self._threads.result(batch.waited)
        finally:
            # Existing bytes of the same token belong to another attempt: do not remove them.
            self._packed = self._token not in batch.refused
        if not self._packed:
            raise token_in_use()

    def _check(self) -> None:
        if self.dropped:
            raise staging_dropped()


class FileChunkStore(DiskStore):
    """`ChunkStore` in a directory tree of one process.

    It is durable across a killed process, and with fsync across power loss.

    The bytes of a large chunk are in ROOT/<shard>/<upload id>/<token> from their first block until
    `drop`, those of a small one in a pack of its upload (packs.py) from `seal`. Nothing is renamed
    when the ledger accepts a chunk: the token in its record names the bytes (rule 1), and bytes
    whose token no record names are leftovers.

    Args:
        root: created with the first chunk.
        fsync: `seal` returns only once file and name are durable.
        threads: concurrent file operations; more of them overlap their waits for fsync.

    Besides the port's errors: `ResourceExhausted` DISK_FULL; its `Unavailable` is
    CHUNK_STORE_UNAVAILABLE.
    """

    def __init__(self, root: Path, *, fsync: bool, threads: int = 8) -> None:
        self._fsync = fsync
        self._folders = UploadFolders(root, fsync=fsync)
        self._staged: dict[str, set[_StagedFile]] = {}
        super().__init__(
            DiskThreads("chunks", workers=threads, unavailable="CHUNK_STORE_UNAVAILABLE")
        )
        self._packs = ChunkPacks(self._folders, self._threads, fsync=fsync)
        self._scan = LeftoverScan(self._folders, self._packs)

    @asynccontextmanager
    async def stage(self, offer: ChunkOffer) -> AsyncIterator[StagedChunk]:
        upload_id, token = offer.upload_id, offer.token
        check_name(token, "token")
        folder = self._folders.folder(check_name(upload_id, "upload_id"))

        def name_durable() -> None:
            if self._fsync:
                sync_directory(folder)

        file = NewFile(
            self._threads, folder / token, fsync=self._fsync, create=self._folders.create
        )
        staged = _StagedFile(self._threads, self._packs, file, name_durable, upload_id, token)
        of_upload = self._staged.setdefault(upload_id, set())
        of_upload.add(staged)
        try:
            yield staged
        finally:
            try:
                if staged.may_be_stored and not staged.sealed:
                    await self._discard(upload_id, token)
            finally:
                of_upload.discard(staged)
                if not of_upload and self._staged.get(upload_id) is of_upload:
                    del self._staged[upload_id]

    def read(self, upload_id: str, chunk: ChunkRef) -> AsyncIterator[bytes]:
        return self.read_many(upload_id, (chunk,))

    async def read_many(self, upload_id: str, chunks: Sequence[ChunkRef]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            check_name(chunk.token, "token")
        check_name(upload_id, "upload_id")
        blocks = read_blocks(self._folders, self._packs, upload_id, chunks)
        if sum(chunk.size for chunk in chunks) <= MAX_BLOCK_BYTES:
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
        await self._threads.run(self._packs.drop, upload_id, tokens)

    async def drop_upload(self, upload_id: str) -> None:
        check_name(upload_id, "upload_id")
        for staged in self._staged.get(upload_id, ()):
            staged.dropped = True
        await self._threads.run(self._packs.drop_upload, upload_id)

    async def leftovers(
        self, older_than_seconds: float, limit: int
    ) -> Sequence[tuple[str, Sequence[str]]]:
        """Return leftovers; each call examines a bounded number of chunks, starting where the last
        call stopped, so that a huge tree is scanned over several calls."""
        return await self._threads.run(self._scan.take, older_than_seconds, limit)

    async def _discard(self, upload_id: str, token: str) -> None:
        try:
            await self._threads.run(self._packs.drop, upload_id, (token,))
        except SluiceError as error:
            # Keep the sender's error; the bytes are leftovers, which the sweeper removes.
            _log.warning("staged_chunk.remove_failed", upload_id=upload_id, reason=error.reason)
