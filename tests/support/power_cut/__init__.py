"""A Redis that can lose its power: what it had not synced is gone, as `kill -9` never shows.

A library preloaded into the server (sync_log.c, compiled here) notes how much of each file was
synced. `cut_power` kills the server and cuts its append-only files back to that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from support.preloaded import compiled
from support.redis_server import RedisServer

_SOURCE = Path(__file__).with_name("sync_log.c")
_APPEND_ONLY = "appendonlydir"


class PoweredRedis(RedisServer):
    """A Redis with an append-only file and a plug to pull.

    Args:
        folder: where it runs, and where the notes lie.
        appendfsync: `always`, `everysec` or `no`.
        arguments: more settings.
        sync_takes: seconds that every sync takes longer, as on a busy disk.
    """

    def __init__(
        self, folder: Path, appendfsync: str, *arguments: str, sync_takes: float = 0
    ) -> None:
        self._running_in = folder / "redis"
        self._running_in.mkdir()
        library = compiled(_SOURCE, folder)
        self._notes = folder / "synced"
        self._preloaded = {
            "LD_PRELOAD": str(library),
            "SLUICE_SYNC_LOG": str(self._notes),
            "SLUICE_SYNC_DELAY_US": str(round(sync_takes * 1e6)),
        }
        super().__init__(
            *("--appendonly", "yes", "--appendfsync", appendfsync),
            *arguments,
            folder=self._running_in,
        )

    def start(self) -> None:
        with pytest.MonkeyPatch.context() as environment:
            for name, value in self._preloaded.items():
                environment.setenv(name, value)
            super().start()

    @property
    def syncs(self) -> int:
        """How many times a file was synced."""
        return len(self._lines())

    @property
    def sync_before_last_began(self) -> float:
        """`time.monotonic()` of the last sync but one of the file that was synced last.

        What Redis answered by then is in the last sync for sure. What it answered just before the
        last one began need not be: with `everysec` Redis answers before it writes from the moment
        that a sync is asked for, and the thread that makes it begins when it gets a processor.
        """
        syncs = self._lines()
        last_inode, _size, _began = syncs[-1]
        *_, before_last, _last = (began for inode, _size, began in syncs if inode == last_inode)
        return before_last / 1e9

    def cut_power(self) -> int:
        """Kill it and take away what was in the page cache only; how many bytes that were."""
        self.kill()
        synced = self._synced_bytes()
        lost = 0
        for path in (self._running_in / _APPEND_ONLY).iterdir():
            status = path.stat()
            kept = min(synced.get(status.st_ino, 0), status.st_size)
            lost += status.st_size - kept
            os.truncate(path, kept)
        return lost

    def _synced_bytes(self) -> Mapping[int, int]:
        """Inode → size at its last sync: a file keeps its inode when it is renamed into place."""
        return {inode: size for inode, size, _began in self._lines()}

    def _lines(self) -> Sequence[tuple[int, int, int]]:
        """Inode, size and time of every sync, in order (sync_log.c)."""
        if not self._notes.exists():
            return []
        rows = (line.split() for line in self._notes.read_text().splitlines())
        return [(int(inode), int(size), int(began)) for inode, size, began in rows]
