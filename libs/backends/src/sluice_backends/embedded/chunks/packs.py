"""Packs: append-only files of small chunks. Everything blocks except `ChunkPacks.add`."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sluice_backends.disk import DiskThreads, sync_directory, unlink_quietly, write_all
from sluice_backends.embedded.chunks.folders import UploadFolders
from sluice_backends.embedded.chunks.pack_format import SUFFIX, head, records
from sluice_core.uploads.chunk_checks import staging_dropped, token_in_use
from sluice_core.uploads.ids import new_token

PACK_BYTES = 8 * 1024 * 1024
"""Size beyond which a pack takes no further chunks."""

_PACK_RECORDS = 8192
"""Number of records beyond which it takes none: reading all records takes 20 ms at most."""

_BATCH_BYTES = 1024 * 1024
_BATCH_CHUNKS = 512

Bytes = bytes | bytearray


class Place(NamedTuple):
    """Location of the bytes of a small chunk."""

    path: Path
    offset: int
    size: int


class Batch:
    """Small chunks of one upload that are written, and synced, together."""

    def __init__(self) -> None:
        self.done: Future[None] = Future()
        self.chunks: dict[str, Bytes] = {}
        self.refused: set[str] = set()
        """Tokens refused because they are in use; known when the batch is done."""
        self.bytes = 0
        self._waited: asyncio.Future[None] | None = None

    @property
    def waited(self) -> asyncio.Future[None]:
        """`done` as one future for all waiters, so that the event loop is woken once."""
        if self._waited is None:
            self._waited = asyncio.wrap_future(self.done)
        return self._waited

    def has_room_for(self, size: int) -> bool:
        return self.bytes + size <= _BATCH_BYTES and len(self.chunks) < _BATCH_CHUNKS

    def add(self, token: str, data: Bytes) -> None:
        if token in self.chunks:
            raise token_in_use()
        self.chunks[token] = data
        self.bytes += len(data)


@dataclass(slots=True, eq=False)
class _Pack:
    path: Path
    number: int
    bytes: int = 0
    records: int = 0
    live: int = 0
    """Chunks that were not dropped."""


@dataclass(slots=True, eq=False)
class _Upload:
    places: dict[str, int] = field(default_factory=dict)
    """Token → pack number, offset and size, encoded in one integer by `_place_code`."""
    packs: dict[int, _Pack] = field(default_factory=dict)
    open: _Pack | None = None
    """Takes the next batch. Never a pack of an earlier process, whose tail may be torn."""
    waiting: deque[Batch] = field(default_factory=deque)
    writing: bool = False
    loaded: bool = False
    dropped: bool = False


class ChunkPacks:
    """Packs of all uploads, in the uploads' folders.

    Creating a file costs many times as much as appending a few kilobytes, so chunks up to
    SMALL_BYTES share the packs of their upload. A pack is removed when its last chunk is dropped.
    It is small, so that this happens soon after its parts are stored.

    The index is in memory, about 200 bytes per stored small chunk. After a restart it is read from
    the packs again, per upload on first use. Drops are not recorded: a token that was dropped
    before a restart, in a pack with live chunks, reappears until its upload ends or the sweeper
    finds it unreferenced.

    Any thread may call. One lock guards the index and is never held during file I/O. Batches of an
    upload are written one at a time. Chunks that arrive meanwhile form the next batch, which queues
    for a thread again, so that a busy upload does not starve others.

    Args:
        fsync: a batch is done once its bytes and the name of its pack are durable.
    """

    def __init__(self, folders: UploadFolders, threads: DiskThreads, *, fsync: bool) -> None:
        self._folders = folders
        self._threads = threads
        self._fsync = fsync
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._uploads: dict[str, _Upload] = {}
        self._process = new_token()
        self._numbers = itertools.count()

    # ------------------------------------------------------------------ writing

    def add(self, upload_id: str, token: str, data: Bytes) -> Batch:
        """Add a chunk to the upload's next batch, without blocking; `data` must not change.

        The batch fails as a whole and stores nothing then: with OSError, or with `Aborted`
        STAGING_DROPPED when the upload was dropped meanwhile.

        Raise `AlreadyExists` TOKEN_IN_USE if the same batch has this token.
        """
        with self._lock:
            upload = self._uploads.get(upload_id)
            if upload is None:
                upload = self._uploads[upload_id] = _Upload()
            if not (upload.waiting and upload.waiting[-1].has_room_for(len(data))):
                upload.waiting.append(Batch())
            batch = upload.waiting[-1]
            batch.add(token, data)
            was_idle = not upload.writing
            upload.writing = True
        if was_idle:
            self._schedule_write(upload_id, upload)
        return batch

    def _schedule_write(self, upload_id: str, upload: _Upload) -> None:
        try:
            self._threads.post(self._write_next, upload_id, upload)
        except RuntimeError as closed:
            # Fail the batches: a closed store never writes them.
            with self._lock:
                upload.writing = False
                batches = list(upload.waiting)
                upload.waiting.clear()
            for batch in batches:
                batch.done.set_exception(closed)

    def _write_next(self, upload_id: str, upload: _Upload) -> None:
        with self._lock:
            batch = upload.waiting.popleft()
        batch.done.set_running_or_notify_cancel()
        failed: Exception | None = None
        try:
            self._load(upload_id)
            self._write(upload_id, upload, batch)
        except Exception as error:  # noqa: BLE001 - set as the exception of `done`
            failed = error
        with self._lock:
            upload.writing = bool(upload.waiting)
            has_next = upload.writing
        if has_next:
            self._schedule_write(upload_id, upload)
        if failed is None:
            batch.done.set_result(None)
        else:
            batch.done.set_exception(failed)

    def _write(self, upload_id: str, upload: _Upload, batch: Batch) -> None:
        batch.refused = self._in_use(upload, batch)
        chunks = [
            (token, data) for token, data in batch.chunks.items() if token not in batch.refused
        ]
        if not chunks:
            return
        pack = self._open_pack(upload_id, upload)
        try:
            codes = self._append(pack, chunks)
        except BaseException:
            self._abandon(upload, pack)  # after any error: the end of the pack is unknown
            raise
        with self._lock:
            upload.places.update(codes)
            pack.records += len(codes)
            pack.live += len(codes)
            dropped = upload.dropped
        if dropped:
            # The upload was dropped, perhaps before this pack was created in its folder.
            self._folders.drop(upload_id, (pack.path.name,))
            raise staging_dropped()

    def _in_use(self, upload: _Upload, batch: Batch) -> set[str]:
        with self._lock:
            if upload.dropped:
                raise staging_dropped()
            return batch.chunks.keys() & upload.places.keys()

    def _open_pack(self, upload_id: str, upload: _Upload) -> _Pack:
        pack = upload.open
        lost = pack is not None and not pack.path.exists()
        with self._lock:
            pack = upload.open
            full = pack is not None and (pack.bytes >= PACK_BYTES or pack.records >= _PACK_RECORDS)
            if pack is None or full or lost:
                number = next(self._numbers)
                name = f"{self._process}-{number}{SUFFIX}"
                pack = _Pack(self._folders.folder(upload_id) / name, number)
                upload.packs[number] = upload.open = pack
            return pack

    def _append(self, pack: _Pack, chunks: Sequence[tuple[str, Bytes]]) -> dict[str, int]:
        """Append the chunks to the pack; return their places."""
        codes: dict[str, int] = {}
        parts: list[Bytes] = []
        at = pack.bytes
        for token, data in chunks:
            start = head(token, len(data))
            codes[token] = _place_code(pack.number, at + len(start), len(data))
            parts += (start, data)
            at += len(start) + len(data)
        created = pack.bytes == 0
        fd = (
            self._folders.create(pack.path)
            if created
            else os.open(pack.path, os.O_WRONLY | os.O_APPEND)
        )
        try:
            write_all(fd, b"".join(parts))
            if self._fsync:
                os.fsync(fd)
                if created:
                    sync_directory(pack.path.parent)
        except OSError:
            # The pack takes no further chunks, so the rest of a half-written batch is harmless.
            # Truncate it anyway to free space on a full disk.
            with contextlib.suppress(OSError):
                os.ftruncate(fd, pack.bytes)
            raise
        finally:
            os.close(fd)
        pack.bytes = at
        return codes

    def _abandon(self, upload: _Upload, pack: _Pack) -> None:
        """Stop appending to this pack; remove it if it has no chunks."""
        with self._lock:
            upload.open = None
            empty = pack.live == 0
        if empty:
            with contextlib.suppress(OSError):  # the next drop or the sweeper retries
                self._remove(upload, pack)

    # ------------------------------------------------------------------ reading

    def find(self, upload_id: str, token: str) -> Place | None:
        """Return the place of the chunk; None if it is in no pack."""
        upload = self._load(upload_id)
        if upload is None:
            return None
        with self._lock:
            code = upload.places.get(token)
            if code is None:
                return None
            return Place(upload.packs[_pack_of(code)].path, _offset_of(code), _size_of(code))

    # ------------------------------------------------------------------ removal

    def drop(self, upload_id: str, tokens: Sequence[str]) -> None:
        """Remove chunks, in packs and in chunk files, and the folder with the last one."""
        upload = self._load(upload_id)
        if upload is None:
            self._folders.drop(upload_id, tokens)
            return
        others: list[str] = []
        with self._lock:
            for token in tokens:
                code = upload.places.pop(token, None)
                if code is None:
                    others.append(token)
                else:
                    upload.packs[_pack_of(code)].live -= 1
            empty = [pack for pack in upload.packs.values() if self._is_removable(upload, pack)]
            if upload.open in empty:
                upload.open = None
        for pack in empty:
            self._remove(upload, pack)
        if self._folders.drop(upload_id, others):
            with self._lock:
                if not (upload.packs or upload.writing) and self._uploads.get(upload_id) is upload:
                    del self._uploads[upload_id]

    @staticmethod
    def _is_removable(upload: _Upload, pack: _Pack) -> bool:
        return pack.live == 0 and not (upload.writing and pack is upload.open)

    def _remove(self, upload: _Upload, pack: _Pack) -> None:
        unlink_quietly(pack.path)  # stays in the index if it fails: the next drop retries
        with self._lock:
            upload.packs.pop(pack.number, None)

    def drop_upload(self, upload_id: str) -> None:
        """Remove the upload and its folder; pending batches fail."""
        with self._lock:
            upload = self._uploads.pop(upload_id, None)
            if upload is not None:
                upload.dropped = True
        self._folders.drop_upload(upload_id)

    # ------------------------------------------------------------------ after a restart

    def tokens(self, upload_id: str, path: Path) -> list[tuple[int, str]]:
        """Return the chunks of a pack with their positions; remove a pack without any."""
        listed = list(enumerate(record.token for record in records(path)))
        with self._lock:
            upload = self._uploads.get(upload_id)
            if upload is not None and upload.loaded:
                listed = [item for item in listed if item[1] in upload.places]
        if not listed:
            self.drop(upload_id, ())
        return listed

    def _load(self, upload_id: str) -> _Upload | None:
        """Return the upload's index, read from its packs on first use; None without a folder.

        This process creates no pack before this, so no pack is read while it is written.
        """
        with self._lock:
            upload = self._uploads.get(upload_id)
            if upload is not None and upload.loaded:
                return upload
        with self._loading:
            with self._lock:
                upload = self._uploads.get(upload_id)
                if upload is not None and upload.loaded:
                    return upload
            paths = self._folders.files(upload_id, SUFFIX)
            read = [self._read_pack(path) for path in paths or ()]
            with self._lock:
                upload = self._uploads.get(upload_id)
                if upload is None:
                    if paths is None:
                        return None
                    upload = self._uploads[upload_id] = _Upload()
                for pack, codes in read:
                    upload.packs[pack.number] = pack
                    upload.places.update(codes)
                upload.loaded = True
                return upload

    def _read_pack(self, path: Path) -> tuple[_Pack, dict[str, int]]:
        number = next(self._numbers)
        codes = {token: _place_code(number, offset, size) for token, offset, size in records(path)}
        return _Pack(path, number, live=len(codes)), codes


def _place_code(number: int, offset: int, size: int) -> int:
    return number << 64 | offset << 32 | size


def _pack_of(code: int) -> int:
    return code >> 64


def _offset_of(code: int) -> int:
    return code >> 32 & 0xFFFF_FFFF


def _size_of(code: int) -> int:
    return code & 0xFFFF_FFFF
