"""Every service as a process on real backends, with a Prometheus and somebody who follows runbooks.

Between services and backends are proxies, for the tests to inject faults.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2
from support import mysql_server
from support.clone import ROOT
from support.deployments import Services
from support.fleet import channel_to, running
from support.gateway_stages import QUICK
from support.http_faults import HttpFaults
from support.kafka_broker import KafkaBroker
from support.operator_commands import Operator
from support.photo_user import PhotoUser, SentPhoto, picture
from support.processes import ServiceProcess
from support.prometheus import Prometheus, prometheus
from support.proxy import FaultProxy
from support.redis_server import RedisServer
from support.separate_services import SHORT_LEASES, s3_by, s3_line
from support.waiting import until
from support.wire import WireClient, cut
from tools.backends.kafka import fetch_jars
from tools.monitoring.files import PROMETHEUS

MIB: Final = 1024 * 1024
DRIVE: Final = "wire"
SECONDS: Final = 90.0
MOST_EVENTS: Final = 5
"""Events that may wait before the gateway refuses new jobs."""
RULES: Final = sorted((ROOT / PROMETHEUS / "rules").glob("*.yaml"))
_KAFKA_CONFIGS: Final = '#!/bin/bash\nexec java -cp "{jars}/*" kafka.admin.ConfigCommand "$@"\n'
_MY_CNF: Final = """\
[client]
protocol=tcp
host=127.0.0.1
port={port}
user={user}
password="{password}"
"""


@dataclass
class WatchedFleet:
    """The processes, and what a test needs to break and to mend them."""

    services: Services
    broker: KafkaBroker
    settings: Mapping[str, str]
    redis_line: FaultProxy
    """Between the intake and Redis."""
    mysql_line: FaultProxy
    """Between MySQL and both gateway and `upkeep`."""
    s3_line: FaultProxy
    """Between `upkeep` and the object store."""
    s3_faults: HttpFaults
    photo_line: FaultProxy
    """Between the processor and the object store."""
    api: ServiceProcess
    intake: ServiceProcess
    parts: ServiceProcess
    upkeep: ServiceProcess
    """The roles completer, sweeper and relay."""
    processor: ServiceProcess
    gateway: ServiceProcess
    wire: WireClient
    operator: Operator
    watching: Prometheus
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def gateways(self) -> Sequence[str]:
        return [f"http://{self.gateway.address}"]

    @property
    def targets(self) -> dict[str, Sequence[str]]:
        return _targets(
            self.api, self.intake, self.parts, self.upkeep, self.processor, self.gateway
        )

    async def mend(self) -> None:
        """End every fault that a failed test has left behind."""
        for line in (self.redis_line, self.mysql_line, self.s3_line, self.photo_line):
            line.heal()
        self.s3_faults.clear()
        self.broker.resume()
        for process in (self.api, self.intake, self.parts, self.upkeep, self.processor):
            if not process.is_running:
                await asyncio.to_thread(process.start)
        if not self.gateway.is_running:
            await asyncio.to_thread(self.gateway.start)
            await asyncio.to_thread(self.watching.scrape_only, self.targets)

    async def send(self, content: bytes, path: str = "") -> str:
        """Send all chunks of an upload without completing it, and return its id."""
        path = path or f"{next(self._numbers)}"
        upload_id = (await self.wire.initiate(path, drive=DRIVE, chunk_size=MIB)).upload_id
        await self.wire.send_stream(upload_id, cut(content, itertools.repeat(MIB)))
        return upload_id

    async def complete(self, upload_id: str, size: int, wait_seconds: int = 60) -> int:
        """Complete an upload and return its state."""
        status = await self.wire.complete(upload_id, -(-size // MIB), wait_seconds)
        return status.state

    async def upload(self, content: bytes, path: str = "") -> None:
        """Upload a file completely."""
        upload_id = await self.send(content, path)
        assert await self.complete(upload_id, len(content)) == upload_pb2.UPLOAD_STATE_COMPLETED

    def second_processor(self, folder: Path) -> ServiceProcess:
        """Return a processor without a faulty line."""
        return ServiceProcess("sluice_processor", folder, self.settings)


async def send_photos(user: PhotoUser, count: int) -> list[SentPhoto]:
    """Send photos as one job."""
    photos, items = await user.create([picture(number) for number in range(count)])
    for photo, item in zip(photos, items, strict=True):
        await user.put(photo, item)
        await user.finalize(photo)
    return photos


async def processed(user: PhotoUser, photos: Sequence[SentPhoto]) -> None:
    """Wait until every photo of one job is COMPLETED."""

    async def all_are() -> bool:
        return set((await user.statuses(photos[0].job_id)).values()) == {"COMPLETED"}

    await until(all_are, SECONDS, "every photo is COMPLETED")


def _targets(*processes: ServiceProcess) -> dict[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for process in processes:
        found.setdefault(f"sluice-{workload_of(process)}", []).append(process.metrics_address)
    return dict(found)


def workload_of(process: ServiceProcess) -> str:
    """Return the name of the image of a process, which the label `name` of its pods is."""
    return process.log.name.partition("-")[0].removeprefix("sluice_")


@asynccontextmanager
async def watched_fleet(folder: Path) -> AsyncIterator[WatchedFleet]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        (folder / "kafka").mkdir()
        broker = KafkaBroker(folder / "kafka")
        stack.callback(broker.kill)
        await broker.start()
        redis = stack.enter_context(RedisServer("--maxmemory", "1gb"))
        services = await asyncio.to_thread(Services, folder, redis)
        mysql = mysql_server.shared_server()
        database = services.mysql_url.rpartition("/")[2]
        faults = HttpFaults()
        redis_line = await enter(FaultProxy("127.0.0.1", redis.port))
        mysql_line = await enter(FaultProxy("127.0.0.1", mysql.port))
        objects_line, photo_line = await enter(s3_line(faults)), await enter(s3_line(HttpFaults()))
        common = {
            **services.settings,
            "SLUICE_KAFKA__BOOTSTRAP_SERVERS": broker.options.bootstrap_servers,
            **QUICK,
            **SHORT_LEASES,
            "SLUICE_GATEWAY__KEYS_FILE": str(folder / "gateway-keys.json"),
            "SLUICE_GATEWAY__MAX_WAITING_EVENTS": str(MOST_EVENTS),
        }
        by_mysql_line = {"SLUICE_MYSQL__URL": mysql.url(database, port=mysql_line.port)}

        def service(
            name: str, settings: Mapping[str, str] | None = None, *arguments: str
        ) -> ServiceProcess:
            every = {**common, **(settings or {})}
            return ServiceProcess(f"sluice_{name}", folder, every, *arguments)

        api = service("repository", None, "--roles", "api")
        parts = service("repository", None, "--roles", "parts")
        upkeep_settings = {**by_mysql_line, **s3_by(objects_line)}
        upkeep = service("repository", upkeep_settings, "--roles", "completer,sweeper,relay")
        intake_settings = {
            "SLUICE_REPOSITORY_SERVER": api.address,
            "SLUICE_REDIS__URL": f"redis://{redis_line.address}/0",
        }
        intake = service("intake", intake_settings)
        processor = service("processor", s3_by(photo_line))
        gateway = service("gateway", by_mysql_line)
        gateway.add_settings({"SLUICE_GATEWAY__PUBLIC_URL": f"http://{gateway.address}"})
        processes = (api, parts, upkeep, intake, processor, gateway)
        await enter(running(api))  # it creates the tables
        await enter(running(*processes[1:]))
        channel = await enter(channel_to(intake.address))
        wire = WireClient(channel)
        wire.repository = WireClient(await enter(channel_to(api.address))).repository
        await wire.repository.CreateDrive(repository_pb2.CreateDriveRequest(name=DRIVE))
        operator = Operator(
            folder / "operator",
            {
                "SLUICE_REDIS__URL": redis.url,
                "SLUICE_KAFKA__BOOTSTRAP_SERVERS": broker.options.bootstrap_servers,
                "SLUICE_SERVER": intake.address,
            },
            {
                "mysql sluice": f"mysql {database}",
                "https://drives.example.com:443": api.address,
            },
        )
        operator.add_program("kafka-configs.sh", _KAFKA_CONFIGS.format(jars=fetch_jars("kafka")))
        (folder / "operator" / ".my.cnf").write_text(
            _MY_CNF.format(port=mysql.port, user=mysql_server.USER, password=mysql_server.PASSWORD),
            encoding="utf-8",
        )
        for process in processes:
            operator.add_log(workload_of(process), process.log)
        scraping = prometheus(folder / "prometheus", _targets(*processes), RULES, shorten=True)
        # In a thread, because the proxies run on this event loop.
        watching = await asyncio.to_thread(stack.enter_context, scraping)
        yield WatchedFleet(
            services=services,
            broker=broker,
            settings=common,
            redis_line=redis_line,
            mysql_line=mysql_line,
            s3_line=objects_line,
            s3_faults=faults,
            photo_line=photo_line,
            api=api,
            intake=intake,
            parts=parts,
            upkeep=upkeep,
            processor=processor,
            gateway=gateway,
            wire=wire,
            operator=operator,
            watching=watching,
        )
