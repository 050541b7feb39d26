"""`kill -9` of the server or the client during an upload, which then resumes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from support.cli import Sluice
from support.deployments import Deployment
from support.files import sha256_of, write_random
from support.recorder import Recorder

MIB = 1024**2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "size"),
    [
        pytest.param(3, 128 * MIB, id="three kills"),
        pytest.param(
            10,
            1024 * MIB,
            id="ten kills",
            marks=[pytest.mark.slow_fault, pytest.mark.timeout(900)],
        ),
    ],
)
async def test_server_kills_during_an_upload_lose_nothing(
    deployed: Deployment, tmp_path: Path, kills: int, size: int
) -> None:
    source = await asyncio.to_thread(write_random, tmp_path / "large.bin", size, 5)
    with deployed.serving() as server:
        async with Recorder(server.address).serving() as recorder:
            sluice = Sluice(recorder.address, tmp_path / "state")
            upload = await asyncio.create_subprocess_exec(
                *sluice.command("upload", str(source), "--drive", "crash", "--json"),
                env=dict(sluice.environment),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            finished = asyncio.ensure_future(upload.communicate())
            for kill in range(1, kills + 1):
                goal = size * kill // (kills + 2)
                while recorder.accepted_bytes < goal:
                    assert not finished.done(), (await finished)[1].decode()
                    await asyncio.sleep(0.005)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
            out, err = await asyncio.wait_for(finished, 240)
            assert upload.returncode == 0, err.decode()
            assert json.loads(out.decode().splitlines()[0])["size"] == size
        assert recorder.resent == []
        direct = Sluice(server.address, tmp_path / "state")
        await asyncio.to_thread(direct.ok, "get", "crash:large.bin", str(tmp_path / "back.bin"))
        assert await asyncio.to_thread(sha256_of, tmp_path / "back.bin") == await asyncio.to_thread(
            sha256_of, source
        )
        await asyncio.to_thread(deployed.assert_nothing_is_left, 1)


@pytest.mark.slow
async def test_killed_client_resumes_and_reports_skipped_bytes(
    deployed: Deployment, tmp_path: Path
) -> None:
    source = await asyncio.to_thread(write_random, tmp_path / "half.bin", 128 * MIB, 6)
    with deployed.serving() as server:
        async with Recorder(server.address).serving() as recorder:
            sluice = Sluice(recorder.address, tmp_path / "state")
            first = sluice.start("upload", str(source), "--drive", "crash", "--json")
            while recorder.accepted_bytes < 32 * MIB:
                assert first.poll() is None, "the upload ended before it could be killed"
                await asyncio.sleep(0.001)
            os.kill(first.pid, signal.SIGKILL)
            await asyncio.to_thread(first.communicate, timeout=30)
            await asyncio.to_thread(_resume, sluice, source)
        await asyncio.to_thread(deployed.assert_nothing_is_left, 1)


def _resume(sluice: Sluice, source: Path) -> None:
    (before,) = sluice.ok("uploads", "--json").json_lines()
    again = sluice.ok("upload", str(source), "--drive", "crash", "--json")
    line = again.json_lines()[0]
    assert line["upload_id"] == before["upload_id"]
    assert line["skipped_bytes"] >= 32 * MIB
    assert line["skipped_bytes"] >= int(before["received_bytes"])
    assert "skipped" in again.err
    back = source.with_name("back.bin")
    sluice.ok("get", "crash:half.bin", str(back))
    assert sha256_of(back) == sha256_of(source)
