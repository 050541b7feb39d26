"""Directories of chunks and packs, one per upload in 256 shards. Everything blocks."""

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

_MAX_ATTEMPTS = 16
"""Attempts when a folder vanishes between its creation and use, because its last chunk was dropped.
"""

_MAX_KNOWN = 10_000


class UploadFolders:
    """Tree ROOT/<2 hex digits of a hash of the upload id>/<upload id>/<token or pack name>.

    Any thread creates and removes folders with their chunks. With fsync a folder is usable only
    once its own name is durable, whichever process created it; known durable folders are cached.
    """

    def __init__(self, root: Path, *, fsync: bool) -> None:
        self._root = root
        self._fsync = fsync
        self._lock = threading.Lock()
        self._known: set[Path] = set()

    @property
    def shards(self) -> list[Path]:
        """Every possible shard, existing or not, in order."""
        return [self._root / f"{number:02x}" for number in range(256)]

    def folder(self, upload_id: str) -> Path:
        shard = hashlib.sha256(upload_id.encode()).hexdigest()[:2]
        return self._root / shard / upload_id

    def create(self, path: Path) -> int:
        """Open a new chunk file in a folder that is as durable as the file."""
        for _ in range(_MAX_ATTEMPTS):
            self._create_folder(path.parent)
            try:
                return create_file(path)
            except FileExistsError as error:
                raise token_in_use() from error
            except FileNotFoundError:
                with self._lock:
                    self._known.discard(path.parent)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))

    def files(self, upload_id: str, suffix: str) -> list[Path] | None:
        """Return the upload's files with this suffix; None without a folder."""
        folder = self.folder(upload_id)
        try:
            return [folder / name for name in os.listdir(folder) if name.endswith(suffix)]
        except FileNotFoundError:
            return None

    def drop(self, upload_id: str, names: Iterable[str]) -> bool:
        """Remove files, and the folder if it is empty then; return whether the folder is gone."""
        folder = self.folder(upload_id)
        for name in names:
            unlink_quietly(folder / name)
        return self._remove_if_empty(folder)

    def drop_upload(self, upload_id: str) -> None:
        """Remove the folder and its contents."""
        folder = self.folder(upload_id)
        for _ in range(_MAX_ATTEMPTS):
            try:
                names = os.listdir(folder)
            except FileNotFoundError:
                return
            for name in names:
                unlink_quietly(folder / name)
            # A sender may have added a file since; it gets STAGING_DROPPED and removes the file.
            if self._remove_if_empty(folder):
                return

    def _create_folder(self, folder: Path) -> None:
        if folder in self._known:
            return
        with self._lock:
            make_directories(folder, fsync=self._fsync)
            if self._fsync:
                # A killed process may have created it without making it durable.
                for parent in (folder.parent, self._root, self._root.parent):
                    sync_directory(parent)
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known.add(folder)

    def _remove_if_empty(self, folder: Path) -> bool:
        with self._lock:
            gone = remove_if_empty(folder)
            if gone:
                self._known.discard(folder)
        return gone
