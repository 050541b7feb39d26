"""Simulated process crashes at crash points, inside the test process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sluice_common.process import crash_points
from sluice_common.process.crash_points import CrashPoint


class CrashSimulated(BaseException):
    """A simulated crash; not an `Exception`, so that no handler catches it."""


@contextmanager
def armed(point: CrashPoint) -> Iterator[None]:
    """Raise `CrashSimulated` inside the block wherever this point is reached."""

    def die(reached: CrashPoint) -> None:
        raise CrashSimulated(reached)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crash_points, "_armed", point)
        patch.setattr(crash_points, "exit_hard", die)
        yield


@contextmanager
def crash_at(point: CrashPoint) -> Iterator[None]:
    """Crash the block at this point; fail the test if it is not reached."""
    with armed(point), pytest.raises(CrashSimulated):
        yield
