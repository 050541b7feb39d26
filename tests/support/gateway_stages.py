"""Gateways as processes that tests kill: `sluice serve`, or separate services with two gateways."""

from __future__ import annotations

import asyncio
import random
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from aiokafka import TopicPartition

from sluice_backends.files.store import FileObjectStore
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.log.event_log import read_events
from sluice_backends.sql.catalogue import open_catalogue
from sluice_common.backends.storage import open_objects
from sluice_common.settings import load_settings
from sluice_core.ports.event_publisher import (
    NODES_TOPIC,
    PHOTOS_TOPIC,
    UPLOADS_TOPIC,
    EventRecord,
)
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.object_store import ObjectStore
from sluice_gateway.metrics import GatewayMetrics
from support import kafka
from support.deployments import Deployment, Embedded, Services
from support.photo_judge import Evidence, judge
from support.photo_user import PhotoUser, SentPhoto
from support.processes import ServiceProcess
from support.redis_server import RedisServer, free_port
from support.server import StandaloneServer
from support.waiting import until

SIZES: Final = (32, 64)
SETTLED_SECONDS: Final = 150.0
_TOPICS: Final = (PHOTOS_TOPIC, UPLOADS_TOPIC, NODES_TOPIC)
QUICK: Final = {
    "SLUICE_GATEWAY__JOBS_PER_MINUTE": "0",
    "SLUICE_GATEWAY__CLAIM_SECONDS": "2",
    "SLUICE_GATEWAY__SWEEP_INTERVAL_SECONDS": "1",
    "SLUICE_SWEEPER__INTERVAL_SECONDS": "1",
    "SLUICE_PROCESSOR__THUMBNAIL_SIZES": ",".join(map(str, SIZES)),
    "SLUICE_PROCESSOR__WORKERS": "1",
}


class GatewayStage(ABC):
    """Running processes with photos, whose data the test can open once they have stopped."""

    backends: Deployment

    @property
    @abstractmethod
    def gateways(self) -> Sequence[str]:
        """Return the base URLs."""

    @abstractmethod
    async def kill(self, step: str, user: PhotoUser) -> str:
        """Kill a process that works on this step, start it again; return its name."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop all processes and check their exit codes."""

    @abstractmethod
    async def events(self) -> list[EventRecord]:
        """Return all events in the order of their topic or log, repeats included."""

    @abstractmethod
    async def open_data(self, stack: AsyncExitStack) -> tuple[GatewayCatalogue, ObjectStore]:
        """Open the catalogue and the object store."""

    async def settled(self, user: PhotoUser, sent: Sequence[SentPhoto]) -> float:
        """Wait until every photo that was not abandoned has ended; return the seconds."""
        waiting = {each.photo_id for each in sent if each.fate == "kept"}
        jobs = {each.photo_id: each.job_id for each in sent}

        async def all_ended() -> bool:
            for job_id in {jobs[photo_id] for photo_id in waiting}:
                for photo_id, status in (await user.statuses(job_id)).items():
                    if status in ("COMPLETED", "FAILED", "CANCELLED"):
                        waiting.discard(photo_id)
            return not waiting

        return await until(all_ended, SETTLED_SECONDS, f"every photo ends, of {len(sent)}")

    async def judge(self, user: PhotoUser, sent: Sequence[SentPhoto]) -> None:
        """Stop everything, and check every promise about these photos."""
        await self.published()
        await self.stop()
        async with AsyncExitStack() as stack:
            catalogue, objects = await self.open_data(stack)
            evidence = Evidence(catalogue, objects, await self.events(), SIZES)
            allowed = await judge(evidence, user.owner, sent)
        assert await asyncio.to_thread(self.backends.leftovers) == []
        assert await asyncio.to_thread(self.backends.count_objects) == len(allowed)

    async def published(self) -> None:
        """Wait until the outbox is empty."""
        async with AsyncExitStack() as stack:
            catalogue, _ = await self.open_data(stack)

            async def all_are() -> bool:
                return not await catalogue.outbox(1)

            await until(all_are, SETTLED_SECONDS, "every event is published")


class EmbeddedStage(GatewayStage):
    """`sluice serve`: one process with everything."""

    def __init__(self, folder: Path) -> None:
        self.backends = Embedded(folder)
        self.server: StandaloneServer = self.backends.server(QUICK)

    @property
    def gateways(self) -> Sequence[str]:
        return [f"http://{self.server.gateway_address}"]

    async def kill(self, step: str, user: PhotoUser) -> str:
        self.server.kill()
        await asyncio.to_thread(self.server.start)
        return "server"

    async def stop(self) -> None:
        assert await asyncio.to_thread(self.server.stop) == 0

    async def events(self) -> list[EventRecord]:
        path = self.server.data_dir / "events"
        return [each.record async for each in read_events(path)]

    async def open_data(self, stack: AsyncExitStack) -> tuple[GatewayCatalogue, ObjectStore]:
        data, enter = self.server.data_dir, stack.enter_async_context
        catalogue = await enter(open_catalogue(f"sqlite:///{data / 'catalogue.sqlite'}"))
        return catalogue, await enter(FileObjectStore(data / "objects", fsync=False))


class ServicesStage(GatewayStage):
    """Two gateways in one consumer group, a processor, and a repository with relay and sweeper."""

    def __init__(self, folder: Path, backends: Services, more: Mapping[str, str]) -> None:
        self.backends = backends
        self.groups = [kafka.unique_name(name) for name in ("gateway", "processor")]
        issuer = f"http://127.0.0.1:{free_port()}"
        self.settings = {
            **backends.settings,
            **QUICK,
            "SLUICE_GATEWAY__PUBLIC_URL": issuer,
            "SLUICE_GATEWAY__KEYS_FILE": str(folder / "gateway-keys.json"),
            "SLUICE_GATEWAY__GROUP": self.groups[0],
            "SLUICE_PROCESSOR__GROUP": self.groups[1],
            **more,
        }
        self.options = KafkaOptions(self.settings["SLUICE_KAFKA__BOOTSTRAP_SERVERS"])
        self.begun: dict[TopicPartition, int] = {}

        def service(module: str, *arguments: str) -> ServiceProcess:
            return ServiceProcess(module, folder, self.settings, *arguments)

        self.gateway_processes = [service("sluice_gateway"), service("sluice_gateway")]
        self.processor = service("sluice_processor")
        self.repository = service("sluice_repository", "--roles", "api,relay,sweeper")
        self.processes = [self.repository, *self.gateway_processes, self.processor]
        self._dice = random.Random(7)

    @property
    def gateways(self) -> Sequence[str]:
        return [f"http://{process.address}" for process in self.gateway_processes]

    async def begin(self) -> None:
        """Skip what other tests have published: their topics are the same."""
        for topic in _TOPICS:
            ends = await kafka.ends_of(self.options, topic)
            self.begun |= ends
            for group in self.groups:
                await kafka.begin_at(self.options, group, ends)

    async def kill(self, step: str, user: PhotoUser) -> str:
        process, name = self._victim(step, user)
        process.kill()
        # At once instead of after the session time-out.
        for group in self.groups:
            if process is not self.repository:
                await kafka.forget_members(self.options, group)
        await asyncio.to_thread(process.start)
        return name

    def _victim(self, step: str, user: PhotoUser) -> tuple[ServiceProcess, str]:
        match step:
            case "event":
                return self._dice.choice(
                    [(self.repository, "relay"), (self._dice.choice(self.gateway_processes), step)]
                )
            case "projection":
                return self._dice.choice(
                    [
                        (self.processor, "processor"),
                        (self.gateway_processes[0], "gateway"),
                        (self.gateway_processes[1], "gateway"),
                    ]
                )
            case _:
                return self.gateway_processes[self.gateways.index(user.base)], "gateway"

    async def stop(self) -> None:
        for process in self.processes:
            assert await asyncio.to_thread(process.stop) == 0, process.log_tail()

    async def events(self) -> list[EventRecord]:
        found: list[EventRecord] = []
        for topic in _TOPICS:
            found += await kafka.records_in(self.options, topic, self.begun)
        return found

    async def open_data(self, stack: AsyncExitStack) -> tuple[GatewayCatalogue, ObjectStore]:
        assert isinstance(self.backends, Services)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.settings.items():
                patch.setenv(name, value)
            settings = load_settings()
        enter = stack.enter_async_context
        catalogue = await enter(open_catalogue(self.backends.mysql_url))
        return catalogue, await enter(open_objects(settings, GatewayMetrics().s3))


@asynccontextmanager
async def gateway_stage(kind: str, folder: Path) -> AsyncIterator[GatewayStage]:
    """Run the processes of a stage: `embedded`, or `services` on real ones."""
    if kind == "embedded":
        stage = EmbeddedStage(folder)
        try:
            await asyncio.to_thread(stage.server.start)
            yield stage
        except BaseException:
            sys.stderr.write(stage.server.log_tail() + "\n")
            raise
        finally:
            await asyncio.to_thread(stage.server.close)
        return
    with RedisServer() as redis:
        async with services_stage(folder, redis) as services:
            yield services


@asynccontextmanager
async def services_stage(
    folder: Path, redis: RedisServer, **more: str
) -> AsyncIterator[ServicesStage]:
    """Run the services on this Redis; `more` are further settings."""
    backends = await asyncio.to_thread(Services, folder, redis)
    stage = ServicesStage(folder, backends, more)
    await stage.begin()
    try:
        first, *others = stage.processes
        await asyncio.to_thread(first.start)  # it creates the tables
        await asyncio.gather(*(asyncio.to_thread(process.start) for process in others))
        yield stage
    except BaseException:
        for process in stage.processes:
            sys.stderr.write(f"{process.log.name}\n{process.log_tail()}\n")
        raise
    finally:
        for process in stage.processes:
            await asyncio.to_thread(process.close)
