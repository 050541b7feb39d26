"""Photos that clients put directly into the store: each notified object becomes one node."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from sluice_core.catalogue.processing import ProcessingState
from sluice_core.errors import NotFound
from sluice_core.objects.marks import path_mark
from sluice_core.ports.catalogue import Node
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.ids import new_node_id
from sluice_core.uploads.model import ObjectRef
from support import kafka as kafka_support
from support import s3_server
from support.commits import DRIVE, TENANT
from support.photo_stage import SECONDS, Stage, dead_letters, photo_stage, running
from support.pictures import as_stored, exif, quadrants, saved
from support.sqs_server import TestQueue, new_queue
from support.store_notifications import aws_message, bridge_message, minio_message, trial_message
from support.waiting import metric, until

PHOTO = saved(as_stored(quadrants(), 6), "JPEG", quality=92, exif=exif(6))


@pytest.fixture
async def queue() -> AsyncIterator[TestQueue]:
    async with new_queue(receives=5) as opened:
        yield opened


@pytest.fixture
def topic() -> str:
    return kafka_support.unique_name("s3")


@pytest.fixture
async def stage(tmp_path: Path, queue: TestQueue, topic: str) -> AsyncIterator[Stage]:
    more = {**queue.settings, "SLUICE_PROCESSOR__S3_TOPIC": topic}
    async with photo_stage(tmp_path, **more) as opened:
        yield opened


async def put_by_url(stage: Stage, path: str, content: bytes = PHOTO) -> ObjectRef:
    """Put an object with a presigned URL, as a browser does."""
    trusted = ssl.create_default_context(cafile=s3_server.s3_account().ca_file)
    ref = ObjectRef(stage.bucket, f"{TENANT}/{DRIVE}/{new_node_id()}")
    attributes = ObjectAttributes("image/jpeg", metadata=path_mark(path))
    signed = await stage.objects.presign_put(ref, 60, len(content), attributes)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as session,
        session.put(signed.url, data=content, headers=signed.headers) as answer,
    ):
        assert answer.status == 200, await answer.text()
    return ref


async def node_at(stage: Stage, path: str, published: list[str]) -> Node:
    """Return the node once it has a result; append the events until then to `published`."""

    async def has_result() -> bool:
        published.extend(await stage.relay())
        try:
            node = await stage.catalogue.find_node(TENANT, DRIVE, path)
        except NotFound:
            return False
        return bool(await stage.catalogue.processing_of(TENANT, [node.node_id]))

    await until(has_result, SECONDS, f"{path} is processed")
    return await stage.catalogue.find_node(TENANT, DRIVE, path)


@pytest.mark.slow
async def test_presigned_photos_are_processed_from_each_source(
    stage: Stage, queue: TestQueue, topic: str
) -> None:
    published: list[str] = []
    async with running(stage.processor()) as process:
        await queue.send(trial_message(stage.bucket))
        refs = {
            path: await put_by_url(stage, path)
            for path in ("MinIO & Kafka.jpg", "2026/S3 → SQS.jpg", "2026/EventBridge.jpg")
        }
        minio, sqs, bridge = refs.values()
        await kafka_support.put(stage.kafka, topic, (b"key", minio_message(minio).encode(), []))
        await kafka_support.put(stage.kafka, topic, (None, b"no notification", []))
        await queue.send(aws_message(sqs), bridge_message(bridge))
        for path, ref in refs.items():
            node = await node_at(stage, path, published)
            assert (node.object, node.size, node.content_type) == (ref, len(PHOTO), "image/jpeg")
            result = (await stage.catalogue.processing_of(TENANT, [node.node_id]))[node.node_id]
            assert result.state is ProcessingState.PROCESSED
            assert [one.size for one in result.thumbnails] == [32, 64]
        assert await metric(process.metrics_address, "sluice_processor_adopted_total") == 3
        for source in ("kafka-s3", "sqs"):

            async def caught_up(source: str = source) -> bool:
                name = "sluice_processor_lag"
                return await metric(process.metrics_address, name, source=source) == 0

            await until(caught_up, SECONDS, f"nothing waits in {source}")
        assert await asyncio.to_thread(process.stop) == 0
    assert (
        sorted(published + await stage.relay()) == ["NodeProcessed"] * 3 + ["UploadCompleted"] * 3
    )
    assert await queue.counts() == (0, 0)
    assert await queue.dead() == []
    listed = await asyncio.to_thread(dead_letters, stage, "list", "--topic", topic)
    assert [letter["reason"] for letter in listed] == ["NOT_A_NOTIFICATION"]


@pytest.mark.rule(19, 23)
@pytest.mark.slow
async def test_many_notifications_of_one_photo_give_one_node(
    stage: Stage, queue: TestQueue, topic: str
) -> None:
    published: list[str] = []
    async with running(stage.processor()) as one, running(stage.processor()) as other:
        paths = [f"{number}.jpg" for number in range(6)]
        refs = [await put_by_url(stage, path) for path in paths]
        for ref in refs:
            await asyncio.gather(
                kafka_support.put(stage.kafka, topic, (None, minio_message(ref).encode(), [])),
                queue.send(aws_message(ref), bridge_message(ref)),
            )
        for path in paths:
            await node_at(stage, path, published)

        async def all_seen() -> bool:
            seen = 0.0
            for process in (one, other):
                for outcome in ("adopted", "processed", "repeated"):
                    name = "sluice_processor_nodes_total"
                    seen += await metric(process.metrics_address, name, outcome=outcome)
            return seen >= 4 * len(refs)

        await until(all_seen, SECONDS, "every notification was handled")
    published += await stage.relay()
    assert sorted(published) == ["NodeProcessed"] * 6 + ["UploadCompleted"] * 6
    page = await stage.catalogue.list_nodes(TENANT, DRIVE, "", 100, "")
    assert [node.path for node in page.nodes] == paths
    thumbnails = [
        name for name in await s3_server.objects_of(stage.bucket) if name.startswith("thumbnails/")
    ]
    assert len(thumbnails) == 2 * len(refs)


@pytest.mark.long
async def test_messages_of_a_killed_processor_are_redelivered(tmp_path: Path, topic: str) -> None:
    """Unfinished messages are redelivered: by SQS after its timeout, by Kafka at once."""
    photos = 24
    async with new_queue(receives=100) as queue:
        more = {
            **queue.settings,
            "SLUICE_SQS__VISIBILITY_SECONDS": "3",
            "SLUICE_PROCESSOR__S3_TOPIC": topic,
        }
        async with photo_stage(tmp_path, **more) as stage:
            paths = [f"{number:02}.jpg" for number in range(photos)]
            refs = [await put_by_url(stage, path) for path in paths]
            await kafka_support.make_topic(stage.kafka, topic, 3)
            for_kafka = [minio_message(ref).encode() for ref in refs[::2]]
            await kafka_support.put(stage.kafka, topic, *((None, body, ()) for body in for_kafka))
            await queue.send(*(aws_message(ref) for ref in refs[1::2]))
            published: list[str] = []
            process = stage.processor()
            for _ in range(3):
                await asyncio.to_thread(process.start)
                await asyncio.sleep(0.7)
                await asyncio.to_thread(process.kill)
                published += await stage.relay()
            async with running(process):
                for path in paths:
                    await node_at(stage, path, published)

                async def emptied() -> bool:
                    return await queue.counts() == (0, 0)

                await until(emptied, SECONDS, "every message was deleted")
            published += await stage.relay()
            thumbnails = await s3_server.objects_of(stage.bucket)
        assert await queue.dead() == []
    assert sorted(published) == ["NodeProcessed"] * photos + ["UploadCompleted"] * photos
    assert sum(name.startswith("thumbnails/") for name in thumbnails) == 2 * photos
