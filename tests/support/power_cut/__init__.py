"""A Redis server with simulated power loss: unsynced data is gone, unlike after `kill -9`."""

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
    """A Redis with an append-only file that can lose its power.

    A library preloaded into the server (sync_log.c, compiled here) records how much of each file
    was synced. `cut_power` kills the server and truncates its append-only files to that size.

    Args:
        folder: working directory, also of the sync log.
        appendfsync: `always`, `everysec` or `no`.
        arguments: more settings.
        sync_takes: extra seconds of every sync, as on a busy disk.
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
        """Number of syncs of all files."""
        return len(self._lines())

    @property
    def sync_before_last_began(self) -> float:
        """`time.monotonic()` of the second last sync of the most recently synced file.

        The last sync certainly contains every write that Redis answered by then. It need not
        contain writes answered just before it began: with `everysec`, once a sync is requested,
        Redis answers before it writes, and the syncing thread starts only when it is scheduled.
        """
        syncs = self._lines()
        last_inode, _size, _began = syncs[-1]
        *_, before_last, _last = (began for inode, _size, began in syncs if inode == last_inode)
        return before_last / 1e9

    def cut_power(self) -> int:
        """Kill the server, drop what was only in the page cache, and return its size in bytes."""
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
        """Return inode → size at its last sync: a renamed file keeps its inode."""
        return {inode: size for inode, size, _began in self._lines()}

    def _lines(self) -> Sequence[tuple[int, int, int]]:
        """Return inode, size and time of every sync, in order (sync_log.c)."""
        if not self._notes.exists():
            return []
        rows = (line.split() for line in self._notes.read_text().splitlines())
        return [(int(inode), int(size), int(began)) for inode, size, began in rows]
