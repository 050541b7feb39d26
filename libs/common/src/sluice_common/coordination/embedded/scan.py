"""A walk over the chunk files that never takes long and comes round to every one of them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sluice_common.coordination.embedded.folders import UploadFolders
from sluice_common.coordination.staging import is_name

_ENTRIES_PER_CALL = 20_000
"""Files looked at before a call returns with what it has; about 50 ms."""


class LeftoverScan:
    """Finds old chunk files, each call going on where the last one stopped. Blocks.

    The order is shard, upload, token, by name. A file that comes or goes meanwhile is seen on this
    round or the next; none is seen twice on one.
    """

    def __init__(self, folders: UploadFolders) -> None:
        self._folders = folders
        self._lock = threading.Lock()
        self._after = ("", "", "")

    def take(self, older_than_seconds: float, limit: int) -> Sequence[tuple[str, Sequence[str]]]:
        """Up to `limit` tokens last written to longer ago than this, by upload.

        Fewer, or none, do not mean that the round is complete.
        """
        before = time.time() - older_than_seconds
        found: dict[str, list[str]] = {}
        count = examined = 0
        with self._lock:
            for place, path in self._rest_of_round():
                self._after = place
                examined += 1
                if _written_before(path, before):
                    found.setdefault(place[1], []).append(place[2])
                    count += 1
                if count >= limit or examined >= _ENTRIES_PER_CALL:
                    break
            else:
                self._after = ("", "", "")
        return list(found.items())

    def _rest_of_round(self) -> Iterator[tuple[tuple[str, str, str], Path]]:
        after_shard, after_upload, after_token = self._after
        for shard in self._folders.shards:
            if shard.name < after_shard:
                continue
            for upload_id in _names(shard):
                if (shard.name, upload_id) < (after_shard, after_upload):
                    continue
                for token in _names(shard / upload_id):
                    place = (shard.name, upload_id, token)
                    if place > (after_shard, after_upload, after_token):
                        yield place, shard / upload_id / token


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if is_name(name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _written_before(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime <= before
    except FileNotFoundError:
        return False
