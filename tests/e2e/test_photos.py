"""Photos go up, and come to have thumbnails and facts, whatever becomes of the processor."""

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
from aiokafka import AIOKafkaConsumer, TopicPartition

from sluice_common.backends.storage import open_database_catalogue, open_objects
from sluice_common.catalogue.migrate import migrate
from sluice_common.catalogue.port import Catalogue, DrivePolicy, NodeCommit
from sluice_common.catalogue.processing import Processing, ProcessingState
from sluice_common.events.kafka.options import KafkaOptions
from sluice_common.events.kafka.publisher import open_kafka_publisher
from sluice_common.events.port import UPLOADS_TOPIC, EventPublisher
from sluice_common.objects.body import BytesBody
from sluice_common.objects.port import ObjectAttributes, ObjectStore
from sluice_common.settings import load_settings
from sluice_common.telemetry.metrics import Metrics
from sluice_common.uploads.model import ObjectRef
from support import kafka as kafka_support
from support import mysql_server, s3_server
from support.commits import DRIVE, TENANT, finished_upload
from support.environment import process_environment
from support.pictures import CANARY_WORDS, as_stored, exif, quadrants, saved
from support.processes import ServiceProcess
from support.waiting import metric, until

PHOTO = saved(as_stored(quadrants(), 6), "JPEG", quality=92, exif=exif(6))
NOT_AN_IMAGE = b"%PDF-1.7 " + bytes(1000)
SECONDS = 30.0


class Stage:
    """S3, MySQL and Kafka, with uploads that have been completed; processors as processes."""

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
        """What completer and relay do: object, node, event. `stored`: what the store has instead
        of the content."""
        commit = finished_upload(path, content=content)
        ref = ObjectRef(self.bucket, f"{TENANT}/{DRIVE}/{commit.node_id}")
        commit = replace(commit, object=ref)
        await self.objects.put(ref, BytesBody(stored or content), ObjectAttributes())
        await self.catalogue.commit_node(commit)
        await self.relay()
        return commit

    async def relay(self) -> list[str]:
        """Publish the outbox; the types of what was in it."""
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


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    account = s3_server.s3_account()
    bucket = await s3_server.new_bucket()
    url = mysql_server.shared_server().create_database()
    await migrate(url)
    group = kafka_support.unique_name("processor")
    settings = {
        "SLUICE_COORDINATION": "redis",
        "SLUICE_CHUNK_TRANSPORT": "redis",
        "SLUICE_OBJECTS": "s3",
        "SLUICE_EVENTS": "kafka",
        "SLUICE_CATALOGUE": "mysql",
        "SLUICE_BUCKET": bucket,
        "SLUICE_S3__ENDPOINT_URL": account.endpoint_url,
        "SLUICE_S3__ACCESS_KEY": account.access_key,
        "SLUICE_S3__SECRET_KEY": account.secret_key,
        "SLUICE_KAFKA__BOOTSTRAP_SERVERS": kafka_support.bootstrap_servers(),
        "SLUICE_MYSQL__URL": url,
        "SLUICE_PROCESSOR__GROUP": group,
        "SLUICE_PROCESSOR__WORKERS": "1",
        "SLUICE_PROCESSOR__THUMBNAIL_SIZES": "32,64",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        loaded = load_settings()
    options = loaded.to_kafka_options()
    metrics = Metrics()
    async with (
        open_objects(loaded, metrics) as objects,
        open_database_catalogue(loaded) as catalogue,
        open_kafka_publisher(options, metrics) as publisher,
    ):
        assert catalogue is not None
        await catalogue.create_drive(TENANT, DRIVE, bucket, "", DrivePolicy())
        await begin_at_the_end(options, group)
        yield Stage(tmp_path, settings, catalogue, objects, publisher, bucket, options, group)


async def begin_at_the_end(options: KafkaOptions, group: str) -> None:
    """Other tests' uploads are in the topic, too: this group has seen them all."""
    number = await kafka_support.partitions_of(options, UPLOADS_TOPIC)
    partitions = [TopicPartition(UPLOADS_TOPIC, each) for each in range(number)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(options.servers), group_id=group, enable_auto_commit=False
    )
    consumer.assign(partitions)
    await consumer.start()
    try:
        await consumer.commit(await consumer.end_offsets(partitions))
    finally:
        await consumer.stop()


@asynccontextmanager
async def running(process: ServiceProcess) -> AsyncIterator[ServiceProcess]:
    await asyncio.to_thread(process.start)
    try:
        yield process
    finally:
        await asyncio.to_thread(process.close)


async def test_photos_are_processed_and_told_of(stage: Stage) -> None:
    async with running(stage.processor()) as process:
        photo = await stage.upload("a.jpg", PHOTO)
        other = await stage.upload("b.jpg", NOT_AN_IMAGE)
        broken = await stage.upload("c.jpg", PHOTO[:-1500])
        done, pdf, failed = await stage.processed(photo, other, broken)
        assert (done.state, done.content_type) == (ProcessingState.PROCESSED, "image/jpeg")
        assert [one.size for one in done.thumbnails] == [32, 64]
        assert (pdf.state, pdf.content_type) == (ProcessingState.PROCESSED, "application/pdf")
        assert (failed.state, failed.reason) == (ProcessingState.FAILED, "TRUNCATED")
        for one in done.thumbnails:
            info = await stage.objects.head(one.object)
            assert info is not None
            assert (info.size, info.etag) == (one.size_bytes, one.etag)
        assert sorted(await stage.relay()) == [
            "NodeProcessed",
            "NodeProcessed",
            "NodeProcessingFailed",
            *["NodeVerified"] * 3,  # what is small is read whole, also when it is no picture
        ]
        assert await metric(process.metrics_address, "sluice_processor_delay_seconds_count") == 3
        assert await asyncio.to_thread(process.stop) == 0
    for word in CANARY_WORDS:
        assert word not in process.log.read_text()


async def test_a_repeated_event_has_no_effect(stage: Stage) -> None:
    async with running(stage.processor()) as process:
        photo = await stage.upload("a.jpg", PHOTO)
        await stage.processed(photo)
        await stage.relay()
        records = await kafka_support.records_in(stage.kafka, UPLOADS_TOPIC)
        (event,) = [record for record in records if record.key == photo.node_id]
        # Under another id, as two sources would ask: not even the memory of ids helps.
        await stage.publisher.publish([event])
        await asyncio.to_thread(process.stop)
        await asyncio.to_thread(process.start)
        await stage.publisher.publish([event])

        async def repeated() -> bool:
            labels = {"outcome": "repeated"}
            return (
                await metric(process.metrics_address, "sluice_processor_nodes_total", **labels) > 0
            )

        await until(repeated, SECONDS, "the event is seen again")
    assert await stage.relay() == []


@pytest.mark.long
async def test_a_processor_that_is_killed_again_and_again_does_everything_once(
    stage: Stage,
) -> None:
    photos = [await stage.upload(f"{number}.jpg", PHOTO) for number in range(60)]
    process = stage.processor()
    for _ in range(4):
        await asyncio.to_thread(process.start)
        await asyncio.sleep(1.0)
        await asyncio.to_thread(process.kill)
    async with running(process):
        await stage.processed(*photos, seconds=90)

        async def caught_up() -> bool:
            return (
                await metric(process.metrics_address, "sluice_processor_lag", source="kafka") == 0
            )

        await until(caught_up, SECONDS, "the lag is less than it was")
    told = await stage.relay()
    assert sorted(told) == ["NodeProcessed"] * 60 + ["NodeVerified"] * 60
    keys = [info.key for info in await thumbnails_in(stage) if info.key.startswith("thumbnails/")]
    assert len(keys) == len(set(keys)) == 120


async def thumbnails_in(stage: Stage) -> list[ObjectRef]:
    names = await s3_server.objects_of(stage.bucket)
    return [ObjectRef(stage.bucket, str(name)) for name in names]


async def test_the_lag_of_a_group_is_told(stage: Stage) -> None:
    waiting = [await stage.upload(f"{number}.txt", b"hello") for number in range(3)]
    async with running(stage.processor()) as process:
        await stage.processed(*waiting)

        async def measured() -> bool:
            return (
                await metric(process.metrics_address, "sluice_processor_lag", source="kafka") == 0
            )

        await until(measured, SECONDS, "the group is through")


def dlq(stage: Stage, *arguments: str) -> list[dict[str, str]]:
    """What `sluice-processor dlq …` prints."""
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


@pytest.mark.row(20)
async def test_what_is_given_up_is_listed_replayed_and_dropped(stage: Stage) -> None:
    """An object that is damaged is given up at once; restored, its letter is replayed."""
    assert await asyncio.to_thread(dlq, stage, "list") == []
    async with running(stage.processor()):
        damaged = [
            await stage.upload(f"{number}.jpg", PHOTO, stored=NOT_AN_IMAGE) for number in range(2)
        ]
        good = await stage.upload("good.jpg", PHOTO)
        await stage.processed(good)

        async def buried() -> bool:
            return len(await asyncio.to_thread(dlq, stage, "list")) == 2

        await until(buried, SECONDS, "both are given up")
        letters = await asyncio.to_thread(dlq, stage, "list")
        assert {one["reason"] for one in letters} == {"CHECKSUM_MISMATCH"}
        assert {one["subject"] for one in letters} == {commit.node_id for commit in damaged}
        for commit in damaged:
            await stage.objects.put(commit.object, BytesBody(PHOTO), ObjectAttributes())
        (replayed,) = await asyncio.to_thread(dlq, stage, "replay", "--count", "1")
        (again,) = [one for one in damaged if one.node_id == replayed["subject"]]

        async def is_processed() -> bool:
            found = await stage.result(again)
            return found is not None and found.state is ProcessingState.PROCESSED

        await until(is_processed, SECONDS, "the replayed one is processed")
        (dropped,) = await asyncio.to_thread(dlq, stage, "drop")
        assert dropped["subject"] != replayed["subject"]
        assert await asyncio.to_thread(dlq, stage, "list") == []
