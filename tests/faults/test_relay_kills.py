"""Repeated kills of the relay under load: every event is published, in order."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from pathlib import Path

import pytest

from sluice_core.ports.event_publisher import UPLOADS_TOPIC
from support import mysql_server
from support.cli import Sluice
from support.processes import ServiceProcess
from support.separate_services import Stage, separate_services
from support.waiting import until

CONTENT = random.Random(50).randbytes(4096)
COMPLETED_SECONDS = 30.0
BETWEEN_UPLOADS_SECONDS = 0.1
LEASE_SECONDS = 15.0
LONGEST_LIFE_SECONDS = 0.3
"""Longest life of a relay with the lease; publishing its backlog takes about as long."""


async def sql(stage: Stage, statement: str) -> list[tuple[object, ...]]:
    """Run a statement in the database of this stage; {} is replaced by its name."""
    database = stage.services.mysql_url.rpartition("/")[2]
    return await asyncio.to_thread(mysql_server.shared_server().run, statement.format(database))


async def upload_until(stage: Stage, enough: asyncio.Event) -> int:
    """Run one upload after the other until `enough` is set; return their number."""
    count = 0
    while not enough.is_set():
        upload_id = await stage.send(f"file-{count}", CONTENT)
        await stage.completed(upload_id, len(CONTENT), COMPLETED_SECONDS)
        count += 1
        await asyncio.sleep(BETWEEN_UPLOADS_SECONDS)
    return count


async def kill_at_work(stage: Stage, relay: ServiceProcess, rng: random.Random) -> None:
    """Wait until the relay holds the lease, then kill it at a random moment."""

    async def holds_the_lease() -> bool:
        holders = await sql(stage, "SELECT holder FROM {}.leases WHERE name = 'relay'")
        return any(f":{relay.pid}:" in str(holder) for (holder,) in holders)

    await until(holds_the_lease, LEASE_SECONDS + 15, "the relay holds the lease")
    await asyncio.sleep(rng.uniform(0, LONGEST_LIFE_SECONDS))
    relay.kill()


async def published(stage: Stage, folder: Path) -> dict[str, list[str]]:
    """Return the event types of each node in topic order, without repetitions."""
    tail = ("events", "tail", "--bootstrap-servers", stage.kafka_servers)
    whole_topic = ("--topic", UPLOADS_TOPIC, "--from", "beginning", "--no-follow")
    sluice = Sluice(stage.intake.address, folder / "state")
    outcome = await asyncio.to_thread(sluice.ok, *tail, *whole_topic)
    known: set[str] = set()
    types: defaultdict[str, list[str]] = defaultdict(list)
    for event in outcome.json_lines():
        if event["id"] not in known:
            known.add(event["id"])
            types[event["subject"]].append(event["type"].rpartition(".")[2])
    return types


@pytest.mark.row(10)
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(4, id="a few kills"),
        pytest.param(
            50, id="fifty kills", marks=[pytest.mark.slow_fault, pytest.mark.timeout(900)]
        ),
    ],
)
async def test_topic_is_complete_and_ordered_after_relay_kills(tmp_path: Path, kills: int) -> None:
    """Row 10, by a consumer: one UploadCompleted per upload, the events of each node in order."""
    rng = random.Random(kills)
    enough = asyncio.Event()
    async with separate_services(tmp_path) as stage, stage.repository("parts,completer,sweeper"):
        async with asyncio.TaskGroup() as group:
            uploading = group.create_task(upload_until(stage, enough))
            for kill in range(kills):
                async with stage.repository("relay") as relay:
                    await kill_at_work(stage, relay, rng)
                if kill < kills - 1:
                    # Its lease would delay the next relay; that of the last one just expires.
                    await sql(stage, "DELETE FROM {}.leases WHERE name = 'relay'")
            enough.set()
        async with stage.repository("relay"):
            await stage.judge()
        types = await published(stage, tmp_path)
        nodes = [upload.node_id for upload in stage.oracle.observations.uploads.values()]
        assert len(nodes) == uploading.result() > kills
        for node in nodes:
            assert types[node] == ["UploadInitiated", "UploadCompleted"]
