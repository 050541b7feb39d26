"""Crashes of the server at each crash point: the restarted server finishes the upload."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil
import pytest

from sluice_client import Client, Quota, Usage
from sluice_common.process.crash_points import (
    ENABLE_VARIABLE,
    EXIT_STATUS,
    POINT_VARIABLE,
    CrashPoint,
)
from support.cli import Sluice
from support.deployments import Deployment
from support.files import write_random
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


async def allow_one_upload(address: str) -> None:
    async with Client(address) as client:
        await client.set_quota("", Quota(max_bytes=SIZE, max_nodes=1, max_open_uploads=1))


async def content_of(address: str) -> bytes:
    async with Client(address) as client:
        return b"".join([block async for block in client.read(drive="crash", path="file.bin")])


async def usage_of(address: str) -> Usage:
    async with Client(address) as client:
        return await client.get_usage()


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
            asyncio.run(allow_one_upload(dying.address))
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
        assert asyncio.run(content_of(server.address)) == source.read_bytes()
        deployed.assert_nothing_is_left(1)
        usage = asyncio.run(usage_of(server.address))
        assert (usage.bytes, usage.nodes) == (SIZE, 1)
        assert (usage.reserved_bytes, usage.open_uploads) == (0, 0)
    finally:
        server.close()


def test_unknown_crash_point_is_refused_at_start(tmp_path: Path) -> None:
    server = StandaloneServer(tmp_path / "data", {ENABLE_VARIABLE: "1", POINT_VARIABLE: "nowhere"})
    with pytest.raises(AssertionError, match="is not a crash point"):
        server.start()
