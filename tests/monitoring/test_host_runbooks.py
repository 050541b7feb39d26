"""Runbooks of one machine and of keys, followed for real; see test_runbooks.py."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc.aio
import pytest

from support.clone import ROOT
from support.fleet import running
from support.missing import missing
from support.operator_commands import Operator
from support.processes import ServiceProcess
from support.prometheus import ends, fires, prometheus
from support.redis_server import free_port
from support.server import StandaloneServer, standalone
from support.wire import CHANNEL_OPTIONS, WireClient, cut
from tools.monitoring.files import PROMETHEUS

pytestmark = [pytest.mark.slow_fault, pytest.mark.usefixtures("prometheus_programs")]

MIB: Final = 1024 * 1024
RULES: Final = (ROOT / PROMETHEUS / "rules" / "causes.yaml",)
DISK_MIB: Final = 256
FILE_MIB: Final = 240
"""More than 90 % of the disk."""
PHASE_1: Final = {
    "SLUICE_COORDINATION": "memory",
    "SLUICE_CHUNK_TRANSPORT": "local",
    "SLUICE_OBJECTS": "discard",
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "off",
}


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a small file system; without the right to, the test is skipped, or fails in CI."""
    folder.mkdir()
    rights = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    options = f"size={DISK_MIB}m,mode=0777"
    mount = [*rights, "mount", "-t", "tmpfs", "-o", options, "sluice-test", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        missing(f"mounting a small disk needs root or sudo: {done.stderr}")
    try:
        yield folder
    finally:
        subprocess.run([*rights, "umount", str(folder)], check=True, timeout=30)


async def test_full_disk_is_freed_by_an_abort(tmp_path: Path) -> None:
    """An upload that nobody continues fills the disk."""
    with small_disk(tmp_path / "disk") as disk, standalone(disk / "data") as server:
        instead = {"DATA_DIR": str(server.data_dir)}
        operator = Operator(tmp_path / "operator", {"SLUICE_SERVER": server.address}, instead)
        targets = {"sluice": [server.metrics_address]}
        with prometheus(tmp_path / "prometheus", targets, RULES) as watching:
            await ends(watching, "SluiceDiskFull")
            async with grpc.aio.insecure_channel(
                server.address, options=CHANNEL_OPTIONS
            ) as channel:
                client = WireClient(channel)
                upload_id = (await client.initiate("held", chunk_size=4 * MIB)).upload_id
                content = os.urandom(FILE_MIB * MIB)
                await client.send_stream(upload_id, cut(content, itertools.repeat(4 * MIB)))
            await fires(watching, "SluiceDiskFull")
            assert "sluice-test" in await operator.follow("disk-full", "df --human-readable")
            assert "chunks" in await operator.follow("disk-full", "du --human-readable")
            assert upload_id in await operator.follow("disk-full", "sluice uploads")
            await operator.follow("disk-full", "sluice abort UPLOAD", UPLOAD=upload_id)
            await ends(watching, "SluiceDiskFull")


async def test_keys_are_fetched_when_the_issuer_is_back(tmp_path: Path) -> None:
    """An intake that has never reached the issuer of its tokens, which is a gateway."""
    gateway_address = f"127.0.0.1:{free_port()}"
    issuer = f"http://{gateway_address}"
    auth = {
        "SLUICE_AUTH__MODE": "jwt",
        "SLUICE_AUTH__ISSUER": issuer,
        "SLUICE_AUTH__AUDIENCE": "sluice",
    }
    operator = Operator(tmp_path / "operator", {"SLUICE_AUTH__ISSUER": issuer})
    intake = ServiceProcess("sluice_intake", tmp_path, {**PHASE_1, **auth})
    operator.add_log("intake", intake.log)
    async with running(intake):
        targets = {"sluice-intake": [intake.metrics_address]}
        with prometheus(tmp_path / "prometheus", targets, RULES) as watching:
            await fires(watching, "SluiceKeysStale")
            assert "auth_keys.refresh_failed" in await operator.follow("keys-stale", "'keys'")
            with pytest.raises(AssertionError, match="connect"):
                await operator.follow("keys-stale", "openid-configuration")
            settings = {"SLUICE_GATEWAY_ADDRESS": gateway_address}
            server = StandaloneServer(tmp_path / "issuer", settings)
            try:
                await asyncio.to_thread(server.start)
                assert issuer in await operator.follow("keys-stale", "openid-configuration")
                await ends(watching, "SluiceKeysStale")
            finally:
                await asyncio.to_thread(server.close)
