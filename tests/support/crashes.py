"""The end of a process at a crash point, played inside the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sluice_common.process import crash_points
from sluice_common.process.crash_points import CrashPoint


class CrashSimulated(BaseException):
    """Stands for the end of a process: no `except Exception` of ours may see it."""


@contextmanager
def armed(point: CrashPoint) -> Iterator[None]:
    """Inside, whoever gets to this point raises `CrashSimulated`."""

    def die(reached: CrashPoint) -> None:
        raise CrashSimulated(reached)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crash_points, "_armed", point)
        patch.setattr(crash_points, "exit_hard", die)
        yield


@contextmanager
def crash_at(point: CrashPoint) -> Iterator[None]:
    """The process dies when it gets to this point; fails when it does not."""
    with armed(point), pytest.raises(CrashSimulated):
        yield
