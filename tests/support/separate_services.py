"""An intake and repositories as processes of their own, each of which a test may end by itself.

    async with separate_services(tmp_path, settings) as stage:
        async with stage.repository("parts,completer") as workers:
            opened = await stage.send("file", content)
            workers.kill()
        ...
        await stage.judge()

Always there: the intake, the oracle before it, and a repository that only answers for drives and
nodes. Whoever works is the test's affair.
"""

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
    """A deployment without workers; clients that are to be heard use `wire`."""

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
        """A process with these roles; gone afterwards, unless the test has killed it already."""
        process = ServiceProcess(
            "sluice_repository",
            self.folder,
            {**self.settings, **(settings or {})},
            *("--roles", roles),
        )
        async with _running(process):
            yield process

    async def open(self, path: str) -> str:
        """The id of a new upload."""
        opened = await self.wire.initiate(path, drive=DRIVE, chunk_size=MIB)
        return opened.upload_id

    async def send(self, path: str, content: bytes) -> str:
        """The id of a new upload whose chunks are in, not completed."""
        upload_id = await self.open(path)
        await self.wire.send_streams(upload_id, cut(content, itertools.repeat(MIB)), 2)
        return upload_id

    async def completed(self, upload_id: str, size: int, seconds: float) -> None:
        """Ask for completion and wait until the upload is COMPLETED, at most so long."""
        total = -(-size // MIB)
        async with asyncio.timeout(seconds):
            while True:
                status = await self.wire.complete(upload_id, total, _WAIT_SECONDS)
                if status.state in ENDS:
                    break
        assert status.state == pb.UPLOAD_STATE_COMPLETED, status

    async def judge(self) -> None:
        """Let every upload end, then check everything (`Oracle.check`)."""
        await self.oracle.settle(self.wire)
        published = published_by(self.services, self.kafka_servers)
        await self.oracle.check(self.wire, self.services, published)


@asynccontextmanager
async def separate_services(
    folder: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Stage]:
    """A stage on a Redis, a bucket and a database of its own; with further settings."""
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
    """Start and stop in a thread: what stands between the processes runs on this event loop.
    A failing test shows what the process said."""
    try:
        await asyncio.to_thread(process.start)
        yield process
    except Exception:
        sys.stderr.write(f"{process.log.name}\n{process.log_tail()}\n")
        raise
    finally:
        await asyncio.to_thread(process.close)


def s3_line(http: HttpFaults) -> FaultProxy:
    """Between workers and S3, for `s3_by`; `http` keeps the books of requests, and may answer."""
    endpoint = urlsplit(s3_server.s3_account().endpoint_url)
    assert endpoint.port is not None
    return FaultProxy(endpoint.hostname or "127.0.0.1", endpoint.port, http=http)


def s3_by(line: FaultProxy) -> Mapping[str, str]:
    """The settings of a process that reaches S3 by this line."""
    return {"SLUICE_S3__ENDPOINT_URL": f"http://{line.address}"}
