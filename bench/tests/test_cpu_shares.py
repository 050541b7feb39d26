"""CPU shares: a process gets its share, and is released afterwards."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench.cpu_shares import SharesUnavailableError, default_share, limited_share

SHARE = 0.2
SECONDS = 1.0


@pytest.fixture
def spinning() -> Iterator[psutil.Process]:
    """Run a process that uses as much of a core as it gets."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


def used(process: psutil.Process) -> float:
    """Return the CPU seconds used in the next second."""
    before, begun = process.cpu_times().user, time.perf_counter()
    time.sleep(SECONDS)
    return float((process.cpu_times().user - before) / (time.perf_counter() - begun))


def groups_of(process: psutil.Process) -> str:
    return Path(f"/proc/{process.pid}/cgroup").read_text(encoding="utf-8")


@pytest.fixture
def shares() -> None:
    try:
        with limited_share([], 1.0):
            pass
    except SharesUnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.usefixtures("shares")
def test_process_has_its_share_and_is_released(spinning: psutil.Process) -> None:
    before = groups_of(spinning)
    with limited_share([spinning.pid], SHARE):
        assert groups_of(spinning) != before
        assert used(spinning) <= 1.5 * SHARE
    assert groups_of(spinning) == before


@pytest.mark.usefixtures("shares")
def test_child_process_is_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its start takes CPU time, too: only the second after it counts.
    program = """if True:
        import time
        begun, used = time.perf_counter(), time.process_time()
        while time.perf_counter() - begun < 1: pass
        print(time.process_time() - used)
    """
    with limited_share([], SHARE):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert float(done.stdout) <= 1.5 * SHARE


@pytest.mark.parametrize(("cores", "share"), [(1, 0.22), (2, 0.45), (4, 0.9), (5, 1.0), (64, 1.0)])
def test_default_share_lets_four_processes_work_at_once(cores: int, share: float) -> None:
    assert default_share(cores) == share


def test_missing_process_is_an_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    with pytest.raises(SharesUnavailableError), limited_share([gone.pid], SHARE):
        pass
