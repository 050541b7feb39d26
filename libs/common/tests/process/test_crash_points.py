"""Crash points exit like SIGKILL, and only if both variables are set."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sluice_common.process.crash_points import CrashPoint, armed_point, crash_point

_PROGRAM = """
import atexit, sys
from sluice_common.process.crash_points import CrashPoint, crash_point
atexit.register(lambda: print("clean-up ran"))
try:
    crash_point(CrashPoint.AFTER_OPEN_MULTIPART)
    print("passed the other point", flush=True)
    crash_point(CrashPoint.AFTER_UPLOAD_PART)
    print("alive", flush=True)
finally:
    print("finally ran", flush=True)
"""


def _run(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_armed_point_ends_the_process_without_any_clean_up() -> None:
    ended = _run(SLUICE_ENABLE_CRASH_POINTS="1", SLUICE_CRASH_AT="after_upload_part")
    assert ended.returncode == 137
    assert ended.stdout == "passed the other point\n"
    assert "after_upload_part" in ended.stderr


def test_without_the_test_setting_a_named_point_does_nothing() -> None:
    ended = _run(SLUICE_CRASH_AT="after_upload_part")
    assert ended.returncode == 0
    assert "alive" in ended.stdout


def test_unknown_point_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match="after_upload_part"):
        armed_point({"SLUICE_ENABLE_CRASH_POINTS": "1", "SLUICE_CRASH_AT": "nowhere"})


def test_enabling_without_naming_a_point_arms_nothing() -> None:
    assert armed_point({"SLUICE_ENABLE_CRASH_POINTS": "1"}) is None


def test_no_point_is_armed_in_an_ordinary_process() -> None:
    for point in CrashPoint:
        crash_point(point)
