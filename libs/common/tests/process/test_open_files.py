"""The limit of open files, in processes of their own."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from sluice_common.process.open_files import ENOUGH

_PREPARED = """
import resource, sys
from sluice_common.process.start import prepare_process
soft, hard = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
prepare_process()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def limits_after_start(soft: int, hard: int) -> tuple[int, int]:
    """Return the limits of a service that starts with these."""
    ran = subprocess.run(
        [sys.executable, "-c", _PREPARED, str(soft), str(hard)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    after_soft, after_hard = ran.stdout.split()
    return int(after_soft), int(after_hard)


@pytest.mark.parametrize(("soft", "hard"), [(256, 512), (512, 512)])
def test_service_raises_its_limit_of_open_files(soft: int, hard: int) -> None:
    assert limits_after_start(soft, hard) == (512, 512)


def test_service_takes_no_more_than_enough_open_files() -> None:
    """Some systems have a hard limit of a thousand million."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    expected = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    assert limits_after_start(256, hard) == (expected, hard)
