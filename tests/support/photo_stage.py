"""S3, MySQL and Kafka with completed uploads, and separate processor processes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.publisher import open_kafka_publisher
from sluice_backends.sql.migrate import migrate
from sluice_common.backends.storage import open_database_catalogue, open_objects
from sluice_common.settings import load_settings
from sluice_core.catalogue.processing import Processing
from sluice_core.objects.body import BytesBody
from sluice_core.ports.catalogue import Catalogue, DrivePolicy, NodeCommit
from sluice_core.ports.event_publisher import UPLOADS_TOPIC, EventPublisher
from sluice_core.ports.object_store import ObjectAttributes, ObjectStore
from sluice_core.uploads.model import ObjectRef
from sluice_processor.metrics import ProcessorMetrics
from support import kafka as kafka_support
from support import mysql_server, s3_server, services
from support.commits import DRIVE, TENANT, finished_upload
from support.environment import process_environment
from support.processes import ServiceProcess
from support.waiting import until

SECONDS = 90.0


class Stage:
    """S3, MySQL and Kafka with completed uploads, for separate processor processes."""

    def __init__(
        self,
        folder: Path,
        settings: dict[str, str],
        catalogue: Catalogue,
        objects: ObjectStore,
        publisher: EventPublisher,
        bucket: str,
        options: KafkaOptions,
        group: str,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.catalogue = catalogue
        self.objects = objects
        self.publisher = publisher
        self.bucket = bucket
        self.kafka = options
        self.group = group

    def processor(self) -> ServiceProcess:
        return ServiceProcess("sluice_processor", self.folder, self.settings)

    async def upload(self, path: str, content: bytes, stored: bytes | None = None) -> NodeCommit:
        """Create object, node and event, as completer and relay do.

        `stored` replaces the content in the store.
        """
        commit = await self.complete(path, content, stored)
        await self.relay()
        return commit

    async def complete(self, path: str, content: bytes, stored: bytes | None = None) -> NodeCommit:
        """Create object and node without publishing the event."""
        commit = finished_upload(path, content=content)
        ref = ObjectRef(self.bucket, f"{TENANT}/{DRIVE}/{commit.node_id}")
        commit = replace(commit, object=ref)
        await self.objects.put(ref, BytesBody(stored or content), ObjectAttributes())
        await self.catalogue.commit_node(commit)
        return commit

    async def relay(self) -> list[str]:
        """Publish the outbox and return the types of its events."""
        rows = await self.catalogue.outbox(10_000)
        await self.publisher.publish([row.event for row in rows])
        await self.catalogue.outbox_published([row.row_id for row in rows])
        return [row.event.type.rpartition(".")[2] for row in rows]

    async def result(self, commit: NodeCommit) -> Processing | None:
        found = await self.catalogue.processing_of(TENANT, [commit.node_id])
        return found.get(commit.node_id)

    async def processed(self, *commits: NodeCommit, seconds: float = SECONDS) -> list[Processing]:
        ids = [commit.node_id for commit in commits]

        async def all_are() -> bool:
            return len(await self.catalogue.processing_of(TENANT, ids)) == len(ids)

        await until(all_are, seconds, "every node has a result")
        found = await self.catalogue.processing_of(TENANT, ids)
        return [found[node_id] for node_id in ids]


@asynccontextmanager
async def photo_stage(folder: Path, **more: str) -> AsyncIterator[Stage]:
    """Open a stage with its own bucket, database and consumer group.

    `more` are further settings of the processors.
    """
    bucket = await s3_server.new_bucket()
    url = await _empty_database()
    await migrate(url)
    group = kafka_support.unique_name("processor")
    settings = {
        "SLUICE_COORDINATION": "redis",
        "SLUICE_CHUNK_TRANSPORT": "redis",
        "SLUICE_OBJECTS": "s3",
        "SLUICE_EVENTS": "kafka",
        "SLUICE_CATALOGUE": "mysql",
        "SLUICE_BUCKET": bucket,
        **s3_server.s3_account().settings(),
        **kafka_support.shared_broker().settings,
        "SLUICE_MYSQL__URL": url,
        "SLUICE_PROCESSOR__GROUP": group,
        "SLUICE_PROCESSOR__WORKERS": "1",
        "SLUICE_PROCESSOR__THUMBNAIL_SIZES": "32,64",
        **more,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        loaded = load_settings()
    options = loaded.to_kafka_options()
    metrics = ProcessorMetrics()
    async with (
        open_objects(loaded, metrics.s3) as objects,
        open_database_catalogue(loaded) as catalogue,
        open_kafka_publisher(options) as publisher,
    ):
        assert catalogue is not None
        await catalogue.create_drive(TENANT, DRIVE, bucket, "", DrivePolicy())
        # The topic also has other tests' uploads.
        ends = await kafka_support.ends_of(options, UPLOADS_TOPIC)
        await kafka_support.begin_at(options, group, ends)
        yield Stage(folder, settings, catalogue, objects, publisher, bucket, options, group)


async def _empty_database() -> str:
    if services.use_tls():
        return await services.fresh_database()
    return mysql_server.shared_server().create_database()


@asynccontextmanager
async def running(process: ServiceProcess) -> AsyncIterator[ServiceProcess]:
    await asyncio.to_thread(process.start)
    try:
        yield process
    finally:
        await asyncio.to_thread(process.close)


def dead_letters(stage: Stage, *arguments: str) -> list[dict[str, str]]:
    """Return the output of `sluice-processor dlq …`."""
    done = subprocess.run(
        [sys.executable, "-m", "sluice_processor", "dlq", *arguments],
        env=process_environment({**stage.settings, "SLUICE_LOG_LEVEL": "error"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]
