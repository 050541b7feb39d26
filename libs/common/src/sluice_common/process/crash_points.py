"""Crash points: named places at which a fault test can kill the process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from typing import NoReturn

ENABLE_VARIABLE = "SLUICE_ENABLE_CRASH_POINTS"
POINT_VARIABLE = "SLUICE_CRASH_AT"
EXIT_STATUS = 137
"""The status that a shell reports after SIGKILL."""


class CrashPoint(StrEnum):
    """All crash points, in the order of the data path.

    The fault tests use the names, to prove that the next holder finishes the work.
    """

    AFTER_RESERVE_QUOTA = "after_reserve_quota"
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
    """Return the point that the environment arms; raise `ValueError` for an unknown name."""
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
            f"{POINT_VARIABLE}={name!r} is not a crash point; choose one of {known}."
        ) from None


def exit_hard(point: CrashPoint) -> NoReturn:
    """Exit the process at once: nothing is flushed, no `finally` runs."""
    os.write(2, f"crash point {point.value}\n".encode())
    os._exit(EXIT_STATUS)


_armed = armed_point(os.environ)


def crash_point(point: CrashPoint) -> None:
    """Exit with status 137, as after `kill -9`, if this point is armed.

    A point is armed by SLUICE_ENABLE_CRASH_POINTS=1 and its name in SLUICE_CRASH_AT. Both are read
    once, when this module is imported, so that an unarmed point costs one comparison.
    """
    if point is _armed:
        exit_hard(point)
