"""Files that others replace while this process runs: tokens, certificates, keys."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

CHECK_SECONDS = 0.25
"""Shortest time between two checks: thousands of calls per second cost four checks."""

Signature = tuple[int, int, int, int]


def signature(path: Path) -> Signature:
    """Return what differs for other content of the file. Follow links. Blocking.

    Kubernetes replaces a mounted file by a link to another one, editors by a rename; both change
    the inode.
    """
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def signatures(paths: Sequence[Path]) -> tuple[Signature, ...]:
    return tuple(signature(path) for path in paths)


class CheckTimer:
    """Says when the next check is due."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = float("-inf")

    def is_due(self) -> bool:
        """Return whether a check is due, and if so begin the next interval."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + CHECK_SECONDS
        return True
