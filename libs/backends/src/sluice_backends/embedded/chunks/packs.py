"""Small chunks, many to a file. All of it blocks, but for `add`.

Creating a file costs many times what appending a few kilobytes does, so chunks up to SMALL_BYTES
share append-only files of their upload, the packs. A pack goes when its last chunk is dropped, and
is kept small so that this comes soon after its parts are stored.

What lies where is known in memory, about 200 bytes for each small chunk that is held. After a
restart it is read from the packs again, upload by upload, when it is first asked for. Drops are
not written down: a token that was dropped before a restart, in a pack that other chunks kept, is
back after it, until its upload ends or the sweeper finds that no record names it.
"""

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
"""A pack takes no further chunks beyond this."""

_PACK_RECORDS = 8192
"""Nor beyond this many: reading a pack's records takes some 20 ms at most."""

_BATCH_BYTES = 1024 * 1024
_BATCH_CHUNKS = 512

Bytes = bytes | bytearray


class Place(NamedTuple):
    """Where the bytes of a small chunk lie."""

    path: Path
    offset: int
    size: int


class Batch:
    """Small chunks of one upload that are written, and synced, in one go."""

    def __init__(self) -> None:
        self.done: Future[None] = Future()
        self.chunks: dict[str, Bytes] = {}
        self.refused: set[str] = set()
        """Tokens left out because they name bytes already; known when the batch is done."""
        self.bytes = 0
        self._waited: asyncio.Future[None] | None = None

    @property
    def waited(self) -> asyncio.Future[None]:
        """`done` for the event loop: one for all that wait, so that it is woken once."""
        if self._waited is None:
            self._waited = asyncio.wrap_future(self.done)
        return self._waited

    def takes(self, size: int) -> bool:
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
    """Chunks in it that were not dropped."""


@dataclass(slots=True, eq=False)
class _Upload:
    places: dict[str, int] = field(default_factory=dict)
    """Token → pack number, offset and size, as `_place_code` puts them into one integer."""
    packs: dict[int, _Pack] = field(default_factory=dict)
    open: _Pack | None = None
    """Takes the next batch. Never one of an earlier process: its tail may be torn."""
    waiting: deque[Batch] = field(default_factory=deque)
    writing: bool = False
    loaded: bool = False
    gone: bool = False


class ChunkPacks:
    """The packs of all uploads, in the uploads' folders.

    Any thread may call. One lock guards what is known; it is never held over file work. Batches of
    an upload are written one at a time: chunks that come meanwhile make up the next one, which
    queues for a thread again, so that a busy upload does not keep the threads from others.

    Args:
        fsync: a batch is done once its bytes and the name of its pack are on the disk.
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

    # ------------------------------------------------------------------ in

    def add(self, upload_id: str, token: str, data: Bytes) -> Batch:
        """Put a chunk into the upload's next batch; does not block. `data` stays as it is.

        The batch fails as a whole, and keeps nothing then: with OSError, or with `Aborted`
        STAGING_DROPPED when the upload was dropped meanwhile.

        Raises `AlreadyExists` TOKEN_IN_USE if the same batch has this token.
        """
        with self._lock:
            upload = self._uploads.get(upload_id)
            if upload is None:
                upload = self._uploads[upload_id] = _Upload()
            if not (upload.waiting and upload.waiting[-1].takes(len(data))):
                upload.waiting.append(Batch())
            batch = upload.waiting[-1]
            batch.add(token, data)
            idle = not upload.writing
            upload.writing = True
        if idle:
            self._write_soon(upload_id, upload)
        return batch

    def _write_soon(self, upload_id: str, upload: _Upload) -> None:
        try:
            self._threads.post(self._write_next, upload_id, upload)
        except RuntimeError as closed:
            # Nobody waits for ever for a store that was closed.
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
        except Exception as error:  # noqa: BLE001 - told to those who wait
            failed = error
        with self._lock:
            upload.writing = bool(upload.waiting)
            again = upload.writing
        if again:
            self._write_soon(upload_id, upload)
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
            self._give_up(upload, pack)  # whatever it was: where the pack ends is not known
            raise
        with self._lock:
            upload.places.update(codes)
            pack.records += len(codes)
            pack.live += len(codes)
            gone = upload.gone
        if gone:
            # The folder was emptied, perhaps before this pack came to lie in it.
            self._folders.forget(upload_id, (pack.path.name,))
            raise staging_dropped()

    def _in_use(self, upload: _Upload, batch: Batch) -> set[str]:
        with self._lock:
            if upload.gone:
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
        """Write the chunks behind what the pack holds; where they lie."""
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
            # The pack takes nothing more, so what is left of a half written batch does no harm;
            # without it a full disk has a little more room.
            with contextlib.suppress(OSError):
                os.ftruncate(fd, pack.bytes)
            raise
        finally:
            os.close(fd)
        pack.bytes = at
        return codes

    def _give_up(self, upload: _Upload, pack: _Pack) -> None:
        """Append to this pack no more; without chunks it goes."""
        with self._lock:
            upload.open = None
            empty = pack.live == 0
        if empty:
            with contextlib.suppress(OSError):  # the next drop, or the sweeper, tries again
                self._remove(upload, pack)

    # ------------------------------------------------------------------ out

    def find(self, upload_id: str, token: str) -> Place | None:
        """Where the chunk lies; None if it is in no pack."""
        upload = self._load(upload_id)
        if upload is None:
            return None
        with self._lock:
            code = upload.places.get(token)
            if code is None:
                return None
            return Place(upload.packs[_pack_of(code)].path, _offset_of(code), _size_of(code))

    # ------------------------------------------------------------------ away

    def drop(self, upload_id: str, tokens: Sequence[str]) -> None:
        """Forget chunks, those with a file of their own too, and the folder with the last one."""
        upload = self._load(upload_id)
        if upload is None:
            self._folders.forget(upload_id, tokens)
            return
        others: list[str] = []
        with self._lock:
            for token in tokens:
                code = upload.places.pop(token, None)
                if code is None:
                    others.append(token)
                else:
                    upload.packs[_pack_of(code)].live -= 1
            empty = [pack for pack in upload.packs.values() if self._is_over(upload, pack)]
            if upload.open in empty:
                upload.open = None
        for pack in empty:
            self._remove(upload, pack)
        if self._folders.forget(upload_id, others):
            with self._lock:
                if not (upload.packs or upload.writing) and self._uploads.get(upload_id) is upload:
                    del self._uploads[upload_id]

    @staticmethod
    def _is_over(upload: _Upload, pack: _Pack) -> bool:
        return pack.live == 0 and not (upload.writing and pack is upload.open)

    def _remove(self, upload: _Upload, pack: _Pack) -> None:
        unlink_quietly(pack.path)  # remembered if it fails, so that the next drop tries again
        with self._lock:
            upload.packs.pop(pack.number, None)

    def drop_upload(self, upload_id: str) -> None:
        """Forget the upload and remove its folder; batches on their way fail."""
        with self._lock:
            upload = self._uploads.pop(upload_id, None)
            if upload is not None:
                upload.gone = True
        self._folders.forget_upload(upload_id)

    # ------------------------------------------------------------------ after a restart

    def tokens(self, upload_id: str, path: Path) -> list[tuple[int, str]]:
        """The chunks that a pack holds, with their place in its order; a pack without any goes."""
        listed = list(enumerate(record.token for record in records(path)))
        with self._lock:
            upload = self._uploads.get(upload_id)
            if upload is not None and upload.loaded:
                listed = [item for item in listed if item[1] in upload.places]
        if not listed:
            self.drop(upload_id, ())
        return listed

    def _load(self, upload_id: str) -> _Upload | None:
        """What is known of the upload, read from its packs the first time; None without a folder.

        No pack of this process is made before this, so none that is being written is read.
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
