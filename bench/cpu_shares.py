"""CPU quotas: an equal share of a core for each process of a measurement."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PERIOD_US: Final = 10_000
"""Short, so that a process that has used its share continues a few milliseconds later."""
_MOUNTS: Final = Path("/proc/self/mounts")


_AT_WORK: Final = 4
"""Processes that move a chunk in phase 3: client, intake, Redis, repository."""
_KEPT_FREE: Final = 0.1
"""Of the cores, for the kernel and for backends without a share."""


class SharesUnavailableError(Exception):
    """No group with a quota can be created here."""


def default_share(cores: int | None = None) -> float:
    """Return the share of a core that each process can have at the same time; at most a whole one.

    Args:
        cores: of the machine; by default those that this process may use.
    """
    available = cores or len(os.sched_getaffinity(0))
    return min(1.0, math.floor(100 * available * (1 - _KEPT_FREE) / _AT_WORK) / 100)


@dataclass(frozen=True, slots=True)
class _Hierarchy:
    """The place of groups with CPU quotas, in one of the two cgroup versions."""

    root: Path
    version: int

    def group_of(self, pid: int) -> Path:
        """Return the group of a process."""
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
        controller = r"\d+:(?:[^:]*,)?cpu(?:,[^:]*)?" if self.version == 1 else "0:"
        match = re.search(rf"^{controller}:(/.*)$", lines, re.MULTILINE)
        return self.root / (match[1] if match else "/").lstrip("/")

    def limit(self, group: Path, share: float) -> None:
        quota = int(_PERIOD_US * share)
        if self.version == 1:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US), encoding="ascii")
            (group / "cpu.cfs_quota_us").write_text(str(quota), encoding="ascii")
        else:
            (group / "cpu.max").write_text(f"{quota} {_PERIOD_US}", encoding="ascii")


def _hierarchy() -> _Hierarchy:
    for line in _MOUNTS.read_text(encoding="utf-8").splitlines():
        _, place, kind, flags, *_ = line.split()
        root = Path(place)
        if kind == "cgroup" and "cpu" in flags.split(","):
            return _Hierarchy(root, 1)
        if kind == "cgroup2" and "cpu" in (root / "cgroup.subtree_control").read_text().split():
            return _Hierarchy(root, 2)
    raise SharesUnavailableError("the kernel shows no cgroups that limit processor time")


@contextmanager
def limited_share(pids: Iterable[int], share: float) -> Iterator[None]:
    """Limit each of the processes, and this one with its children, to a share of one core.

    On two cores, four processes compete for them, and a phase with one more process is slower by
    what that one costs. Kernel quotas (cgroups, version 1 or 2) give every process an equal share
    of a core, as if the machine had a slower core for each. It needs a writable cgroup file system,
    as root usually has. Every process returns to its group when the block ends.

    Args:
        share: 0.5 is half of a core; all threads of a process share it.

    Raises SharesUnavailableError.
    """
    hierarchy = _hierarchy()
    groups: list[tuple[Path, Path]] = []
    try:
        for pid in (*pids, os.getpid()):
            group = hierarchy.root / f"sluice-bench-{pid}"
            try:
                home = hierarchy.group_of(pid)
                group.mkdir(exist_ok=True)
                groups.append((group, home))
                hierarchy.limit(group, share)
                _move(pid, group)
            except OSError as error:
                raise SharesUnavailableError(f"{group}: {error.strerror or error}") from error
        yield
    finally:
        for group, home in groups:
            for left in (group / "cgroup.procs").read_text(encoding="ascii").split():
                _move(int(left), home)
            group.rmdir()


def _move(pid: int, group: Path) -> None:
    (group / "cgroup.procs").write_text(str(pid), encoding="ascii")
