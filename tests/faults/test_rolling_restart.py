"""Fault 18: services restarted under load, one after the other."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_client import Client, UploadResult
from support.calls import CHUNK, MIB, chunks_of, slow_line
from support.cli import Sluice
from support.deployments import Services
from support.fleet import DRIVE, Fleet, channel_to, fleet, target_of, until
from support.processes import ServiceProcess
from support.wire import WireClient

pytestmark = pytest.mark.row(18)

DRAIN_SECONDS = 10.0
EXIT_MARGIN_SECONDS = 1.0
"""Time for the exit of the interpreter on a shared machine."""


def sources(folder: Path, count: int, size: int) -> list[Path]:
    made = []
    for number in range(count):
        made.append(folder / f"source{number}")
        made[-1].write_bytes(random.Random(number).randbytes(size))
    return made


@asynccontextmanager
async def load(here: Fleet, files: list[Path]) -> AsyncIterator[list[asyncio.Task[UploadResult]]]:
    """Upload every file slowly while the block runs; wait for all uploads at the exit."""
    async with (
        slow_line(here.address, 2 * MIB) as line,
        Client(line.address) as client,
        asyncio.TaskGroup() as group,
    ):
        yield [
            group.create_task(client.upload(file, drive=DRIVE, path=file.name, chunk_size=CHUNK))
            for file in files
        ]


async def drained(service: ServiceProcess) -> float:
    """Stop the service by SIGTERM; return the seconds until it exited with 0."""
    began = time.monotonic()
    assert await asyncio.to_thread(service.stop) == 0, service.log_tail()
    return time.monotonic() - began


@pytest.mark.slow_fault
@pytest.mark.parametrize("which", ["intake", "repository"])
async def test_service_under_load_stops_within_its_drain(
    services: Services, tmp_path: Path, which: str
) -> None:
    """Row 18: after SIGTERM under load it exits within 10 s, and no upload fails."""
    async with fleet(services, tmp_path) as here:
        (service,) = here.intakes if which == "intake" else here.repositories
        async with load(here, sources(tmp_path, 3, 10 * MIB)) as uploads:
            await here.acknowledges(4)
            assert await drained(service) < DRAIN_SECONDS + EXIT_MARGIN_SECONDS
            assert not any(upload.done() for upload in uploads)
            await asyncio.to_thread(service.start)
        assert [upload.result().restarts for upload in uploads] == [0, 0, 0]
        await here.judge()


async def test_upload_continues_at_the_other_intake(services: Services, tmp_path: Path) -> None:
    """Row 18: both intakes know what either of them acknowledged."""
    chunks = chunks_of(20, seed=1)
    async with fleet(services, tmp_path, intakes=2, repositories=2) as here:
        first, second = here.recorders
        async with channel_to(first.address) as one, channel_to(second.address) as two:
            opened = await WireClient(one).initiate("moves", chunk_size=CHUNK)
            await WireClient(one).send_stream(opened.upload_id, chunks[:11])
            await asyncio.to_thread(here.intakes[0].stop)
            status = await WireClient(two).status(opened.upload_id)
            assert status.received_chunks == 11
            await WireClient(two).send_stream(opened.upload_id, chunks[11:])
            done = await WireClient(two).complete(opened.upload_id, len(chunks))
        assert done.state == pb.UPLOAD_STATE_COMPLETED
        await here.judge()


@pytest.mark.slow_fault
async def test_rolling_restart_fails_no_upload(services: Services, tmp_path: Path) -> None:
    """Row 18: two intakes and two repositories, each stopped and started while uploads run."""
    async with fleet(services, tmp_path, intakes=2, repositories=2) as here:
        async with load(here, sources(tmp_path, 4, 12 * MIB)) as uploads:
            await here.acknowledges(4)
            for service in (*here.intakes, *here.repositories):
                before = here.acknowledged
                took = await drained(service)
                assert took < DRAIN_SECONDS + EXIT_MARGIN_SECONDS
                # The other replica serves before this one is back.
                if not all(upload.done() for upload in uploads):
                    await here.acknowledges(before + 1)
                await asyncio.to_thread(service.start)
        assert [upload.result().restarts for upload in uploads] == [0, 0, 0, 0]
        await here.judge()


async def test_upload_command_fails_over_to_the_other_intake(
    services: Services, tmp_path: Path
) -> None:
    """Row 18: with both addresses, `sluice upload` needs no load balancer: when its intake stops,
    it continues at the other one."""
    (source,) = sources(tmp_path, 1, 64 * MIB)
    async with fleet(services, tmp_path, intakes=2) as here:
        command = Sluice(target_of(here.intakes), tmp_path / "state")
        command.environment = {
            **command.environment,
            "SLUICE_REPOSITORY_SERVER": here.repositories[0].address,
        }
        upload = await asyncio.to_thread(
            command.start, "upload", str(source), "--drive", DRIVE, "--json"
        )

        async def begun() -> bool:
            return any(":received" in key for key in services.redis.all_keys())

        await until(begun, 30, "the upload begins")
        assert await drained(here.intakes[0]) < DRAIN_SECONDS + EXIT_MARGIN_SECONDS
        out, err = await asyncio.to_thread(upload.communicate, timeout=120)
        assert upload.returncode == 0, err
        assert any(json.loads(line).get("size") == 64 * MIB for line in out.splitlines()), out
        assert services.count_objects() == 1
