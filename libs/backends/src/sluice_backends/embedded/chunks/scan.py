"""Incremental scan of the stored chunks for leftovers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sluice_backends.embedded.chunks.folders import UploadFolders
from sluice_backends.embedded.chunks.pack_format import SUFFIX
from sluice_backends.embedded.chunks.packs import ChunkPacks
from sluice_core.uploads.chunk_checks import is_name

_ENTRIES_PER_CALL = 20_000
"""Files, and chunks in packs, examined per call; about 50 ms."""


_Position = tuple[str, str, str, int]
"""Shard, upload, file, and number in a pack."""

_START: _Position = ("", "", "", -1)


class LeftoverScan:
    """Scan for old chunks; each call continues where the last one stopped. Blocks.

    The order is shard, upload, file, by name, then the position in a pack. Chunks added or removed
    meanwhile are seen in this round or the next, and none twice in one. The age of a chunk is that
    of the last write to its file: in a pack, of the youngest chunk.
    """

    def __init__(self, folders: UploadFolders, packs: ChunkPacks) -> None:
        self._folders = folders
        self._packs = packs
        self._lock = threading.Lock()
        self._after = _START

    def take(self, older_than_seconds: float, limit: int) -> Sequence[tuple[str, Sequence[str]]]:
        """Return up to `limit` tokens last written longer ago than this, by upload.

        Fewer, or none, do not mean that the round is complete.
        """
        before = time.time() - older_than_seconds
        leftovers: dict[str, list[str]] = {}
        count = examined = 0
        with self._lock:
            for position, token in self._rest_of_round(before):
                self._after = position
                examined += 1
                if token:
                    leftovers.setdefault(position[1], []).append(token)
                    count += 1
                if count >= limit or examined >= _ENTRIES_PER_CALL:
                    break
            else:
                self._after = _START
        return list(leftovers.items())

    def _rest_of_round(self, before: float) -> Iterator[tuple[_Position, str]]:
        """Yield every examined position, with the token of an old chunk, else an empty string."""
        after_shard, after_upload, after_file, after_number = self._after
        for shard in self._folders.shards:
            if shard.name < after_shard:
                continue
            for upload_id in _names(shard):
                if (shard.name, upload_id) < (after_shard, after_upload):
                    continue
                for name in _names(shard / upload_id, SUFFIX):
                    file = (shard.name, upload_id, name)
                    if file < (after_shard, after_upload, after_file):
                        continue
                    resumed = after_number if file == self._after[:3] else -1
                    for number, token in self._chunks(upload_id, shard / upload_id / name, before):
                        if number > resumed:
                            yield (*file, number), token

    def _chunks(self, upload_id: str, path: Path, before: float) -> Iterator[tuple[int, str]]:
        old = _written_before(path, before)
        if old and path.suffix == SUFFIX:
            yield from self._packs.tokens(upload_id, path)
        else:
            yield 0, path.name if old else ""


def _names(folder: Path, suffix: str = "") -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if is_name(name.removesuffix(suffix)))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _written_before(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime <= before
    except FileNotFoundError:
        return False
