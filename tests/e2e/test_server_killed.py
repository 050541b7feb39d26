"""`kill -9` of the server, again and again, during one upload: the same command finishes it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from support.cli import Sluice
from support.files import sha256_of, write_random
from support.leftovers import assert_nothing_is_left
from support.recorder import Recorder
from support.server import standalone

GIB = 1024**3
KILLS = 10


@pytest.mark.slow
async def test_ten_kills_of_the_server_during_one_upload_lose_and_repeat_nothing(
    tmp_path: Path,
) -> None:
    source = await asyncio.to_thread(write_random, tmp_path / "one-gib.bin", GIB, 5)
    with standalone(tmp_path / "data") as server:
        async with Recorder(server.address).serving() as recorder:
            sluice = Sluice(recorder.address, tmp_path / "state")
            upload = await asyncio.create_subprocess_exec(
                *sluice.command("upload", str(source), "--drive", "crash", "--json"),
                env=dict(sluice.environment),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            finished = asyncio.ensure_future(upload.communicate())
            for kill in range(1, KILLS + 1):
                goal = GIB * kill // (KILLS + 2)
                while recorder.accepted_bytes < goal:
                    assert not finished.done(), (await finished)[1].decode()
                    await asyncio.sleep(0.005)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
            out, err = await asyncio.wait_for(finished, 240)
            assert upload.returncode == 0, err.decode()
            assert json.loads(out.decode().splitlines()[0])["size"] == GIB
        assert recorder.sent_again == []
        direct = Sluice(server.address, tmp_path / "state")
        await asyncio.to_thread(direct.ok, "get", "crash:one-gib.bin", str(tmp_path / "back.bin"))
        assert await asyncio.to_thread(sha256_of, tmp_path / "back.bin") == await asyncio.to_thread(
            sha256_of, source
        )
        await asyncio.to_thread(assert_nothing_is_left, server, 1)


@pytest.mark.slow
def test_a_killed_client_resumes_and_says_how_much_it_skipped(tmp_path: Path) -> None:
    source = write_random(tmp_path / "half.bin", GIB // 2, seed=6)
    with standalone(tmp_path / "data") as server:
        sluice = Sluice(server.address, tmp_path / "state")
        first = sluice.start("upload", str(source), "--drive", "crash", "--json")
        upload_id = _wait_for_received(sluice, GIB // 8)
        os.kill(first.pid, signal.SIGKILL)
        first.communicate(timeout=30)

        before = json.loads(sluice.ok("status", upload_id, "--json").out)
        again = sluice.ok("upload", str(source), "--drive", "crash", "--json")
        line = again.json_lines()[0]
        assert line["upload_id"] == upload_id
        assert line["skipped_bytes"] >= GIB // 8
        assert line["skipped_bytes"] >= before["received_bytes"]
        assert "skipped" in again.err
        sluice.ok("get", "crash:half.bin", str(tmp_path / "back.bin"))
        assert sha256_of(tmp_path / "back.bin") == sha256_of(source)
        assert_nothing_is_left(server, 1)


def _wait_for_received(sluice: Sluice, size: int) -> str:
    """Poll the list of uploads until one of them has this many bytes; its id."""
    for _ in range(600):
        for line in sluice.ok("uploads", "--json").json_lines():
            if int(line["received_bytes"]) >= size:
                return str(line["upload_id"])
    raise AssertionError("no upload reached the size in time")
