"""A deployment of separate intake and repository processes that tests can kill one by one."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import grpc.aio

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2 as pb
from support import s3_server
from support.deployments import Services
from support.http_faults import HttpFaults
from support.oracle import Oracle, published_by
from support.oracle.observations import ENDS
from support.processes import ServiceProcess
from support.proxy import FaultProxy
from support.recorder import Recorder
from support.redis_server import RedisServer
from support.wire import CHANNEL_OPTIONS, WireClient, cut

MIB: Final = 1024 * 1024
DRIVE: Final = "wire"
PART_BYTES: Final = 5 * MIB
ALL_WORK: Final = "parts,completer,sweeper,relay"
QUICK: Final = {
    "SLUICE_PART_BYTES": str(PART_BYTES),
    "SLUICE_SWEEPER__INTERVAL_SECONDS": "1",
}
SHORT_LEASES: Final = {
    "SLUICE_QUEUE__LEASE_SECONDS": "6",
    "SLUICE_QUEUE__HEARTBEAT_SECONDS": "2",
}
_WAIT_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Stage:
    """A deployment without workers, which the test starts; observed clients use `wire`.

    It runs the intake with the oracle in front of it, and a repository with the role `api`.

        async with separate_services(tmp_path, settings) as stage:
            async with stage.repository("parts,completer") as workers:
                upload_id = await stage.send("file", content)
                workers.kill()
            ...
            await stage.judge()
    """

    services: Services
    settings: Mapping[str, str]
    folder: Path
    intake: ServiceProcess
    recorder: Recorder
    wire: WireClient
    oracle: Oracle

    @property
    def kafka_servers(self) -> str:
        return self.settings["SLUICE_KAFKA__BOOTSTRAP_SERVERS"]

    @asynccontextmanager
    async def repository(
        self, roles: str, settings: Mapping[str, str] | None = None
    ) -> AsyncIterator[ServiceProcess]:
        """Run a process with these roles; stop it afterwards unless the test has killed it."""
        process = ServiceProcess(
            "sluice_repository",
            self.folder,
            {**self.settings, **(settings or {})},
            *("--roles", roles),
        )
        async with _running(process):
            yield process

    async def open(self, path: str) -> str:
        """Initiate an upload and return its id."""
        opened = await self.wire.initiate(path, drive=DRIVE, chunk_size=MIB)
        return opened.upload_id

    async def send(self, path: str, content: bytes) -> str:
        """Initiate an upload, send all its chunks without completing it, and return its id."""
        upload_id = await self.open(path)
        await self.wire.send_streams(upload_id, cut(content, itertools.repeat(MIB)), 2)
        return upload_id

    async def completed(self, upload_id: str, size: int, seconds: float) -> None:
        """Complete the upload and wait at most `seconds` until it is COMPLETED."""
        total = -(-size // MIB)
        async with asyncio.timeout(seconds):
            while True:
                status = await self.wire.complete(upload_id, total, _WAIT_SECONDS)
                if status.state in ENDS:
                    break
        assert status.state == pb.UPLOAD_STATE_COMPLETED, status

    async def judge(self) -> None:
        """Complete every upload (`Oracle.settle`), then check everything (`Oracle.check`)."""
        await self.oracle.settle(self.wire)
        published = published_by(self.services, self.kafka_servers)
        await self.oracle.check(self.wire, self.services, published)


@asynccontextmanager
async def separate_services(
    folder: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Stage]:
    """Open a stage with its own Redis, bucket and database."""
    with RedisServer() as redis:
        services = await asyncio.to_thread(Services, folder, redis)
        every = {**services.settings, **QUICK, **(settings or {})}
        api = ServiceProcess("sluice_repository", folder, every, "--roles", "api")
        every["SLUICE_REPOSITORY_SERVER"] = api.address
        intake = ServiceProcess("sluice_intake", folder, every)
        oracle = Oracle()
        async with (
            _running(api),
            _running(intake),
            Recorder(intake.address, oracle).serving() as recorder,
            grpc.aio.insecure_channel(recorder.address, options=CHANNEL_OPTIONS) as heard,
            grpc.aio.insecure_channel(api.address) as asked,
        ):
            wire = WireClient(heard)
            wire.repository = WireClient(asked).repository
            await wire.repository.CreateDrive(repository_pb2.CreateDriveRequest(name=DRIVE))
            yield Stage(services, every, folder, intake, recorder, wire, oracle)


@asynccontextmanager
async def _running(process: ServiceProcess) -> AsyncIterator[ServiceProcess]:
    """Start and stop a process in a thread, because the proxies run on this event loop.

    A failing test shows the end of the process's log.
    """
    try:
        await asyncio.to_thread(process.start)
        yield process
    except Exception:
        sys.stderr.write(f"{process.log.name}\n{process.log_tail()}\n")
        raise
    finally:
        await asyncio.to_thread(process.close)


def s3_line(http: HttpFaults) -> FaultProxy:
    """Return a proxy between workers and S3, for `s3_by`; `http` logs requests and may answer."""
    endpoint = urlsplit(s3_server.s3_account().endpoint_url)
    assert endpoint.port is not None
    return FaultProxy(endpoint.hostname or "127.0.0.1", endpoint.port, http=http)


def s3_by(line: FaultProxy) -> Mapping[str, str]:
    """Return the settings of a process that reaches S3 through this proxy."""
    return {"SLUICE_S3__ENDPOINT_URL": f"http://{line.address}"}
