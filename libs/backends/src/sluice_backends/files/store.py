"""Object store in files of one machine; a manifest lists the parts, which are never joined."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from sluice_backends.disk import DiskStore, DiskThreads, NewFile, create_file
from sluice_backends.files.folders import ObjectFolders, check_multipart_id, remove_tree
from sluice_backends.files.manifest import Manifest, Piece
from sluice_backends.files.signed_urls import SignedUrls
from sluice_core.errors import InvalidArgument
from sluice_core.objects.body import verified
from sluice_core.objects.parts import (
    Part,
    check_part_number,
    object_damaged,
    object_exists,
    presign_unsupported,
)
from sluice_core.ports.object_listener import OpenObject
from sluice_core.ports.object_store import (
    Body,
    ListedObject,
    ObjectAttributes,
    ObjectInfo,
    ObjectPage,
    PartTag,
    PresignedPut,
)
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_core.uploads.model import MAX_BLOCK_BYTES, MIN_PART_BYTES, ObjectRef

T = TypeVar("T")


# Size: two ports on one tree: `ObjectStore`, and `ListenerStore` for bodies of clients.
class FileObjectStore(DiskStore):
    """`ObjectStore` and `ListenerStore` in a directory tree of one process (see `folders.py`).

    Args:
        root: created by `check`, as are buckets, which are folders in it.
        fsync: make results durable across power loss before a call returns.
        min_part_bytes: minimum size of every part but the last; S3's limit by default, so that
            uploads that would fail on S3 fail here too.
        threads: concurrent file operations.
        urls: signer of URLs that the embedded object listener serves; None for a store without.
        beside_owner: another process uses the tree, and this one only reads. It leaves that
            process's temporary files alone, and `check` creates no bucket.

    Besides the port's errors: `ResourceExhausted` DISK_FULL; `InvalidArgument` BAD_BUCKET,
    BAD_PART_NUMBER, BAD_RANGE; `DataLoss` OBJECT_DAMAGED when a completely read part does not
    match its CRC32C or is too short, MANIFEST_DAMAGED.
    """

    def __init__(
        self,
        root: Path,
        *,
        fsync: bool,
        min_part_bytes: int = MIN_PART_BYTES,
        threads: int = 8,
        urls: SignedUrls | None = None,
        beside_owner: bool = False,
    ) -> None:
        self._fsync = fsync
        self._urls = urls
        self._folders = ObjectFolders(
            root, fsync=fsync, min_part_bytes=min_part_bytes, beside_owner=beside_owner
        )
        super().__init__(
            DiskThreads(
                "objects", workers=threads, unavailable="STORE_UNAVAILABLE", denied="STORE_DENIED"
            )
        )

    async def check(self, bucket: str) -> None:
        await self._threads.run(self._folders.make_bucket, bucket)

    async def put(self, ref: ObjectRef, body: Body, attributes: ObjectAttributes) -> ObjectInfo:
        part = Part.new(1, body.size, body.crc32c)
        temporary = await self._threads.run(self._folders.new_temporary, ref.bucket)
        manifest = await self._write(
            temporary, body, lambda: self._folders.put(ref, attributes, temporary, part)
        )
        return manifest.info

    async def open_multipart(
        self, ref: ObjectRef, attributes: ObjectAttributes, *, by_clients: bool = False
    ) -> str:
        return await self._threads.run(self._folders.open_multipart, ref, attributes)

    async def put_part(self, ref: ObjectRef, multipart_id: str, number: int, body: Body) -> PartTag:
        check_part_number(number)
        part = Part.new(number, body.size, body.crc32c)
        # Checked before the bytes are read, and again when the part is moved to its place.
        await self._threads.run(self._folders.check_open, ref, multipart_id)
        temporary = await self._threads.run(self._folders.new_temporary, ref.bucket)
        await self._write(
            temporary, body, lambda: self._folders.add_part(ref, multipart_id, temporary, part)
        )
        return part.tag

    async def list_parts(self, ref: ObjectRef, multipart_id: str) -> Sequence[PartTag]:
        parts = await self._threads.run(self._folders.parts, ref, multipart_id)
        return [part.tag for part in parts]

    async def open_multiparts(self, ref: ObjectRef) -> Sequence[str]:
        return await self._threads.run(self._folders.open_multiparts, ref)

    async def complete_multipart(
        self,
        ref: ObjectRef,
        multipart_id: str,
        parts: Sequence[PartTag],
        *,
        by_clients: bool = False,
    ) -> ObjectInfo:
        return (await self._threads.run(self._folders.complete, ref, multipart_id, parts)).info

    async def abort_multipart(self, ref: ObjectRef, multipart_id: str) -> None:
        await self._threads.run(self._folders.abort, ref, multipart_id)

    async def read(self, ref: ObjectRef, offset: int, length: int) -> AsyncIterator[bytes]:
        if offset < 0 or length < 0:
            raise InvalidArgument("BAD_RANGE", "Offset and length of a range are not negative.")
        async with aclosing(self._threads.stream(self._blocks(ref, offset, length))) as blocks:
            async for block in blocks:
                yield block

    async def head(self, ref: ObjectRef) -> ObjectInfo | None:
        manifest = await self._threads.run(self._folders.manifest, ref)
        return None if manifest is None else manifest.info

    async def list_objects(self, bucket: str, prefix: str, limit: int, after: str) -> ObjectPage:
        page = await self._threads.run(self._folders.list_manifests, bucket, prefix, limit, after)
        listed = tuple(ListedObject(one.ref, one.size) for one in page.manifests)
        return ObjectPage(listed, page.next_after, tuple(page.unreadable))

    async def delete(self, ref: ObjectRef) -> None:
        await self._threads.run(self._folders.delete, ref)

    async def receive(self, ref: ObjectRef, body: Body, attributes: ObjectAttributes) -> ObjectInfo:
        existing = await self.head(ref)
        if existing is not None and existing.size != body.size:
            raise object_exists()  # before its bytes are read
        temporary = await self._threads.run(self._folders.new_temporary, ref.bucket)

        def publish() -> Manifest:
            part = Part.new(1, body.size, body.crc32c)
            return self._folders.put(ref, attributes, temporary, part, replace=False)

        return (await self._write(temporary, body, publish)).info

    async def receive_part(
        self, ref: ObjectRef, multipart_id: str, number: int, body: Body
    ) -> PartTag:
        check_part_number(number)
        await self._threads.run(self._folders.check_open, ref, multipart_id)
        temporary = await self._threads.run(self._folders.new_temporary, ref.bucket)

        def publish() -> PartTag:
            part = Part.new(number, body.size, body.crc32c)
            self._folders.add_part(ref, multipart_id, temporary, part)
            return part.tag

        return await self._write(temporary, body, publish)

    @asynccontextmanager
    async def open_object(self, ref: ObjectRef) -> AsyncIterator[OpenObject]:
        # A stack, because a cancelled caller must still close what the thread has opened.
        stack = ExitStack()
        try:
            manifest, folder_fd = await self._threads.run(
                stack.enter_context, self._folders.reading(ref)
            )

            async def read(offset: int, length: int) -> AsyncGenerator[bytes, None]:
                pieces = _read_pieces(manifest, folder_fd, offset, length)
                async with aclosing(self._threads.stream(pieces)) as blocks:
                    async for block in blocks:
                        yield block

            yield OpenObject(manifest.info, read)
        finally:
            await self._threads.run(stack.close)

    async def presign_get(self, ref: ObjectRef, lifetime_seconds: int, filename: str) -> str:
        return await self._signer().get(ref, lifetime_seconds, filename)

    async def presign_put(
        self,
        ref: ObjectRef,
        lifetime_seconds: int,
        size: int,
        attributes: ObjectAttributes,
        *,
        crc32c: int | None = None,
    ) -> PresignedPut:
        return await self._signer().put(ref, lifetime_seconds, size, attributes, crc32c)

    async def presign_part(
        self,
        ref: ObjectRef,
        multipart_id: str,
        number: int,
        lifetime_seconds: int,
        size: int,
        *,
        crc32c: int | None = None,
    ) -> PresignedPut:
        signer = self._signer()
        check_multipart_id(multipart_id)
        return await signer.part(ref, multipart_id, number, lifetime_seconds, size, crc32c)

    def _signer(self) -> SignedUrls:
        if self._urls is None:
            raise presign_unsupported()
        return self._urls

    async def _write(self, temporary: Path, body: Body, then: Callable[[], T]) -> T:
        """Write and verify a body, then let `then` move the file to its place."""
        file = NewFile(self._threads, temporary, fsync=self._fsync, create=create_file)
        moved = False
        try:
            async with aclosing(verified(body)) as blocks:
                async for block in blocks:
                    await file.append(block)
            result = await file.finish(then)
            moved = True
            return result
        finally:
            if file.created and not moved:
                await self._threads.run(remove_tree, temporary)

    def _blocks(self, ref: ObjectRef, offset: int, length: int) -> Generator[bytes, None, None]:
        with self._folders.reading(ref) as (manifest, folder_fd):
            yield from _read_pieces(manifest, folder_fd, offset, length)


def _read_pieces(
    manifest: Manifest, folder_fd: int, offset: int, length: int
) -> Generator[bytes, None, None]:
    for piece in manifest.pieces(offset, length):
        yield from _read_piece(piece, folder_fd)


def _read_piece(piece: Piece, folder_fd: int) -> Generator[bytes, None, None]:
    try:
        fd = os.open(piece.part.name, os.O_RDONLY, dir_fd=folder_fd)
    except FileNotFoundError as error:
        raise object_damaged() from error
    try:
        crc, position = EMPTY_CRC32C, piece.start
        while position < piece.stop:
            block = os.pread(fd, min(MAX_BLOCK_BYTES, piece.stop - position), position)
            if not block:
                raise object_damaged()
            position += len(block)
            crc = crc32c(block, crc)
            # Check before the last block is yielded, so that a damaged part is never complete.
            if position == piece.stop and piece.is_whole_part and crc != piece.part.crc32c:
                raise object_damaged()
            yield block
    finally:
        os.close(fd)
