"""Named places where a test may kill the process, to prove that the next holder finishes the work.

A point does nothing unless SLUICE_ENABLE_CRASH_POINTS=1 and SLUICE_CRASH_AT names it, both read
once when this module is imported. Then the process exits as if by `kill -9`: no clean-up, no
flush, status 137. The names are part of the fault tests; add one here before using it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from typing import NoReturn

ENABLE_VARIABLE = "SLUICE_ENABLE_CRASH_POINTS"
POINT_VARIABLE = "SLUICE_CRASH_AT"
EXIT_STATUS = 137
"""What a shell reports of a process ended by SIGKILL."""


class CrashPoint(StrEnum):
    """Every crash window that has a name, in the order of the way of a byte."""

    BEFORE_ACCEPT_CHUNK = "before_accept_chunk"
    AFTER_ACCEPT_CHUNK = "after_accept_chunk"
    AFTER_CLAIM_PART = "after_claim_part"
    AFTER_OPEN_MULTIPART = "after_open_multipart"
    AFTER_SET_MULTIPART = "after_set_multipart"
    AFTER_UPLOAD_PART = "after_upload_part"
    AFTER_RECORD_PART = "after_record_part"
    AFTER_CLAIM_COMPLETION = "after_claim_completion"
    AFTER_COMPLETE_MULTIPART = "after_complete_multipart"
    AFTER_CATALOGUE_COMMIT = "after_catalogue_commit"
    AFTER_FINISH = "after_finish"
    AFTER_PUBLISH = "after_publish"


def armed_point(environment: Mapping[str, str]) -> CrashPoint | None:
    """The point that this environment arms; raises ValueError for a name that does not exist."""
    if environment.get(ENABLE_VARIABLE) != "1":
        return None
    name = environment.get(POINT_VARIABLE, "")
    if not name:
        return None
    try:
        return CrashPoint(name)
    except ValueError:
        known = ", ".join(CrashPoint)
        raise ValueError(
            f"{POINT_VARIABLE}={name!r} is no crash point; choose one of {known}."
        ) from None


def exit_hard(point: CrashPoint) -> NoReturn:
    """End the process at once: nothing is flushed, no `finally` runs."""
    os.write(2, f"crash point {point.value}\n".encode())
    os._exit(EXIT_STATUS)


_armed = armed_point(os.environ)


def crash_point(point: CrashPoint) -> None:
    """Die here if this point is armed; otherwise one comparison."""
    if point is _armed:
        exit_hard(point)
