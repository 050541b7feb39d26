"""Crashes of the server at each crash point: the restarted server finishes the upload."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from sluice_common.process.crash_points import (
    ENABLE_VARIABLE,
    EXIT_STATUS,
    POINT_VARIABLE,
    CrashPoint,
)
from support.cli import Sluice
from support.deployments import Deployment
from support.files import sha256_of, write_random
from support.server import StandaloneServer

MIB = 1024 * 1024
SIZE = 20 * MIB
# The next process waits for the leases of the dead one; short leases only shorten the test.
QUICK = {
    "SLUICE_QUEUE__LEASE_SECONDS": "4",
    "SLUICE_QUEUE__HEARTBEAT_SECONDS": "1",
    "SLUICE_SWEEPER__INTERVAL_SECONDS": "2",
}
DEATH_SECONDS = 60.0


def wait_for_death(server: StandaloneServer) -> int | None:
    """Return the exit status of a server that is about to crash."""
    return psutil.Process(server.pid).wait(DEATH_SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize("point", list(CrashPoint))
def test_restarted_server_finishes_the_crashed_upload(
    deployed: Deployment, tmp_path: Path, point: CrashPoint
) -> None:
    source = write_random(tmp_path / "file.bin", SIZE, seed=7)
    dying = deployed.server({**QUICK, ENABLE_VARIABLE: "1", POINT_VARIABLE: point.value})
    dying.start()
    try:
        sluice = Sluice(dying.address, tmp_path / "state")
        if point is CrashPoint.AFTER_RESERVE_QUOTA:
            # Room for one upload: the repeated call uses the reservation of the dead server.
            limits = ("--max-bytes", str(SIZE), "--max-nodes", "1", "--max-open-uploads", "1")
            sluice.ok("quota", "set", "--tenant", *limits)
        upload = sluice.start("upload", str(source), "--drive", "crash", "--json")
        assert wait_for_death(dying) == EXIT_STATUS, dying.log_tail()
    finally:
        dying.close()
    died = time.monotonic()
    server = deployed.server(QUICK)
    server.address = dying.address
    server.start()
    try:
        _, err = upload.communicate(timeout=90)
        assert upload.returncode == 0, err
        # Fault table, rows 5 and 8: the next holder finishes within 60 s.
        assert time.monotonic() - died < 60
        sluice.ok("get", "crash:file.bin", str(tmp_path / "back.bin"))
        assert sha256_of(tmp_path / "back.bin") == sha256_of(source)
        deployed.assert_nothing_is_left(1)
        (shown,) = sluice.ok("quota", "show", "--tenant", "--json").json_lines()
        counted = ("bytes", "nodes", "reserved_bytes", "open_uploads")
        assert [shown[name] for name in counted] == [SIZE, 1, 0, 0]
    finally:
        server.close()


def test_unknown_crash_point_is_refused_at_start(tmp_path: Path) -> None:
    server = StandaloneServer(tmp_path / "data", {ENABLE_VARIABLE: "1", POINT_VARIABLE: "nowhere"})
    with pytest.raises(AssertionError, match="is not a crash point"):
        server.start()
