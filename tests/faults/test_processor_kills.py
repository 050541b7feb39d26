"""Repeated kills of the processor and its children under load."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil
import pytest
from aiokafka import TopicPartition

from bench.load.photos import photo
from sluice_backends.kafka.headers import from_message
from sluice_backends.kafka.options import KafkaOptions
from sluice_client import Client
from sluice_core.ports.event_publisher import NODES_TOPIC, UPLOADS_TOPIC
from support import kafka, mysql_server, s3_server
from support.pictures import exif
from support.processes import ServiceProcess
from support.separate_services import ALL_WORK, DRIVE, Stage, separate_services
from support.waiting import metric, until

WORKERS: Final = 2
SIZES: Final = (32, 64)
AT_ONCE: Final = 8
CHILD_ONLY: Final = 0.3
"""The share of the kills that hit only a child."""
WORK_SECONDS: Final = 40.0
LONGEST_MOMENT_SECONDS: Final = 0.05
DYING_SECONDS: Final = 5.0


@dataclass(slots=True)
class Books:
    """The record of uploads, children and kills, by which the test judges the result."""

    nodes: list[str] = field(default_factory=list)
    children: set[psutil.Process] = field(default_factory=set)
    """Every decoder process that was seen."""
    kills: Counter[str] = field(default_factory=Counter)


@pytest.mark.row(20)
@pytest.mark.parametrize(
    ("kills", "photos"),
    [
        pytest.param(5, 60, id="a few kills"),
        pytest.param(
            50,
            1000,
            id="fifty kills",
            marks=[pytest.mark.slow_fault, pytest.mark.timeout(900)],
        ),
    ],
)
async def test_each_photo_is_processed_once_despite_kills(
    tmp_path: Path, kills: int, photos: int
) -> None:
    """Row 20: one result, one event id and one set of thumbnails per photo; no leftover processes
    or files."""
    rng, books = random.Random(kills), Books()
    spool = tmp_path / "spool"
    spool.mkdir()
    group = kafka.unique_name("processor")
    pictures = [photo(200, 150, seed, exif=exif(1 + seed % 8)) for seed in range(24)]
    settings = {
        "SLUICE_PROCESSOR__GROUP": group,
        "SLUICE_PROCESSOR__WORKERS": str(WORKERS),
        "SLUICE_PROCESSOR__THUMBNAIL_SIZES": ",".join(map(str, SIZES)),
        "SLUICE_PROCESSOR__SPOOL_DIR": str(spool),
    }
    async with separate_services(tmp_path, settings) as stage, stage.repository(ALL_WORK):
        options = KafkaOptions(bootstrap_servers=stage.kafka_servers)
        begun = await kafka.ends_of(options, UPLOADS_TOPIC)
        await kafka.begin_at(options, group, begun)
        begun |= await kafka.ends_of(options, NODES_TOPIC)
        processor = ServiceProcess("sluice_processor", tmp_path, stage.settings)
        async with Client(stage.intake.address) as client:
            try:
                await asyncio.to_thread(processor.start)
                for kill in range(kills):
                    batch = pictures_of(photos, kills, kill)
                    sending = asyncio.create_task(
                        send(client, books, [pictures[n % len(pictures)] for n in batch])
                    )
                    await kill_at_work(stage, processor, books, rng, len(batch))
                    await sending
                    if not is_running(processor):
                        await kafka.forget_members(options, group)
                        await asyncio.to_thread(processor.start)
                await everything_is_done(stage, books)
                remember_children(processor, books)
                assert await asyncio.to_thread(processor.stop) == 0
            finally:
                await asyncio.to_thread(processor.close)
        assert len(books.nodes) == photos
        assert books.kills.total() == kills
        assert set(books.kills) == {"process", "child"}
        await judge_catalogue(stage, books)
        await judge_topic(options, group, begun, books)
        assert await kafka.partitions_of(options, f"{UPLOADS_TOPIC}.{group}.dlq") == 0 or (
            await kafka.messages_in(options, f"{UPLOADS_TOPIC}.{group}.dlq") == []
        )
    assert [child for child in books.children if child.is_running()] == []
    assert list(spool.iterdir()) == []
    print(f"{photos} photos, {dict(books.kills)} killed, {len(books.children)} children seen")  # noqa: T201


def pictures_of(photos: int, kills: int, kill: int) -> range:
    """Return the numbers of the photos that are uploaded around one kill."""
    return range(photos * kill // kills, photos * (kill + 1) // kills)


async def send(client: Client, books: Books, photos: Sequence[bytes]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(content: bytes) -> None:
        async with gate:
            path = f"{len(books.nodes)}-{random.getrandbits(64):x}.jpg"
            books.nodes.append((await client.upload(content, drive=DRIVE, path=path)).node_id)

    async with asyncio.TaskGroup() as group:
        for content in photos:
            group.create_task(one(content))


async def kill_at_work(
    stage: Stage, processor: ServiceProcess, books: Books, rng: random.Random, photos: int
) -> None:
    """Kill the processor or a child while it processes the photos of this kill."""
    before = await results(stage)
    target = before + rng.randrange(max(1, photos // 2))

    async def at_work() -> bool:
        remember_children(processor, books)
        busy = await metric(processor.metrics_address, "sluice_processor_in_flight") > 0
        return busy and await results(stage) >= target

    deadline = time.monotonic() + WORK_SECONDS
    while not await at_work():
        assert time.monotonic() < deadline, f"no work within {WORK_SECONDS:g} s"
        if await results(stage) >= before + photos:
            break  # a fast machine has finished the batch already
    await asyncio.sleep(rng.uniform(0, LONGEST_MOMENT_SECONDS))
    # The first two kills are one of each kind.
    turn = books.kills.total()
    if turn == 0 or (turn > 1 and rng.random() < CHILD_ONLY):
        books.kills["child"] += 1
        rng.choice(psutil.Process(processor.pid).children()).kill()
        return
    books.kills["process"] += 1
    children = remember_children(processor, books)
    processor.kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, DYING_SECONDS)
    assert alive == [], "children outlive their parent"


def remember_children(processor: ServiceProcess, books: Books) -> list[psutil.Process]:
    found = psutil.Process(processor.pid).children(recursive=True)
    books.children.update(found)
    return found


def is_running(processor: ServiceProcess) -> bool:
    return psutil.pid_exists(processor.pid)


async def sql(stage: Stage, statement: str) -> list[tuple[object, ...]]:
    """Run a statement in the database of this stage; {} is replaced by its name."""
    database = stage.services.mysql_url.rpartition("/")[2]
    return await asyncio.to_thread(mysql_server.shared_server().run, statement.format(database))


async def results(stage: Stage) -> int:
    ((count,),) = await sql(stage, "SELECT COUNT(*) FROM {}.processings")
    return int(str(count))


async def everything_is_done(stage: Stage, books: Books) -> None:
    async def done() -> bool:
        return await results(stage) == len(books.nodes)

    async def published() -> bool:
        return await sql(stage, "SELECT COUNT(*) FROM {}.outbox") == [(0,)]

    await until(done, WORK_SECONDS, "every photo has a result")
    await until(published, WORK_SECONDS, "every event is published")


async def judge_catalogue(stage: Stage, books: Books) -> None:
    """Check one result and one set of thumbnails per node, and no other stored thumbnails."""
    rows = await sql(stage, "SELECT node_id, etag, state, reason FROM {}.processings")
    assert sorted(str(row[0]) for row in rows) == sorted(books.nodes)
    assert {row[2:] for row in rows} == {("PROCESSED", "")}
    small = await sql(stage, "SELECT node_id, object_key, size, recorded FROM {}.thumbnails")
    assert {row[3] for row in small} == {1}
    of_nodes: defaultdict[object, list[object]] = defaultdict(list)
    for node_id, _, size, _ in small:
        of_nodes[node_id].append(size)
    assert {node: sorted(map(str, sizes)) for node, sizes in of_nodes.items()} == {
        node: sorted(map(str, SIZES)) for node in books.nodes
    }
    stored = [key for key in await s3_server.objects_of(stage.services.bucket) if "thumb" in key]
    assert sorted(stored) == sorted(row[1].decode() for row in small if isinstance(row[1], bytes))
    assert await sql(stage, "SELECT COUNT(*) FROM {}.object_deletions") == [(0,)]


async def judge_topic(
    options: KafkaOptions, group: str, begun: Mapping[TopicPartition, int], books: Books
) -> None:
    """Check that each node has its events, each event one id, and the group committed all."""
    ours = {node.encode() for node in books.nodes}
    ids: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    last: dict[TopicPartition, int] = {}
    for raw in [
        *await kafka.messages_in(options, UPLOADS_TOPIC, begun),
        *await kafka.messages_in(options, NODES_TOPIC, begun),
    ]:
        if raw.key not in ours:
            continue
        record = from_message(raw.topic, raw.key, raw.value, raw.headers)
        kind = record.type.rpartition(".")[2]
        ids[record.key, kind].add(record.event_id)
        if kind == "UploadCompleted":
            last[TopicPartition(raw.topic, raw.partition)] = raw.offset
    types = {kind for _, kind in ids}
    assert {"UploadCompleted", "NodeProcessed"} <= types
    assert "NodeProcessingFailed" not in types
    for kind in types:
        assert {node for node, other in ids if other == kind} == set(books.nodes)
    assert [key for key, found in ids.items() if len(found) != 1] == []
    for partition, offset in last.items():
        committed = await kafka.committed(options, group, partition)
        assert committed is not None
        assert committed > offset
