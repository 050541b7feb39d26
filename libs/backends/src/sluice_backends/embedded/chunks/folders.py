"""One folder per upload, in 256 shards: where chunks and packs lie. All of it blocks."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from sluice_backends.disk import (
    create_file,
    make_directories,
    remove_if_empty,
    sync_directory,
    unlink_quietly,
)
from sluice_core.uploads.chunk_checks import token_in_use

_RACES = 16
"""How often a folder may vanish (its last chunk was dropped) between making and using it."""

_REMEMBERED = 10_000


class UploadFolders:
    """ROOT/<2 hex digits of a hash of the upload id>/<upload id>/<token, or name of a pack>.

    Folders come and go with their chunks, by any thread. With fsync a folder counts as there only
    when its own name is on the disk, whoever made it; the ones known to be are remembered.
    """

    def __init__(self, root: Path, *, fsync: bool) -> None:
        self._root = root
        self._fsync = fsync
        self._lock = threading.Lock()
        self._known: set[Path] = set()

    @property
    def shards(self) -> list[Path]:
        """Every possible shard, there or not, in order."""
        return [self._root / f"{number:02x}" for number in range(256)]

    def folder(self, upload_id: str) -> Path:
        shard = hashlib.sha256(upload_id.encode()).hexdigest()[:2]
        return self._root / shard / upload_id

    def create(self, path: Path) -> int:
        """Open a new chunk file, in a folder that survives what the file survives."""
        for _ in range(_RACES):
            self._make(path.parent)
            try:
                return create_file(path)
            except FileExistsError as error:
                raise token_in_use() from error
            except FileNotFoundError:
                with self._lock:
                    self._known.discard(path.parent)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    def files(self, upload_id: str, suffix: str) -> list[Path] | None:
        """The upload's files with this suffix; None without a folder."""
        folder = self.folder(upload_id)
        try:
            return [folder / name for name in os.listdir(folder) if name.endswith(suffix)]
        except FileNotFoundError:
            return None

    def forget(self, upload_id: str, names: Iterable[str]) -> bool:
        """Remove files, and the folder with the last of them; whether that is gone."""
        folder = self.folder(upload_id)
        for name in names:
            unlink_quietly(folder / name)
        return self._remove_if_empty(folder)

    def forget_upload(self, upload_id: str) -> None:
        """Remove the folder and all in it."""
        folder = self.folder(upload_id)
        for _ in range(_RACES):
            try:
                names = os.listdir(folder)
            except FileNotFoundError:
                return
            for name in names:
                unlink_quietly(folder / name)
            # A sender may have put a file there since; it is told, and takes it away itself.
            if self._remove_if_empty(folder):
                return

    def _make(self, folder: Path) -> None:
        if folder in self._known:
            return
        with self._lock:
            make_directories(folder, fsync=self._fsync)
            if self._fsync:
                # It may have been made, and not made durable, by a process that was killed.
                for parent in (folder.parent, self._root, self._root.parent):
                    sync_directory(parent)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known.add(folder)

    def _remove_if_empty(self, folder: Path) -> bool:
        with self._lock:
            gone = remove_if_empty(folder)
            if gone:
                self._known.discard(folder)
        return gone
