"""Relay killed repeatedly: topics stay complete and ordered per key (rule 22)."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sluice_backends.kafka.options import KafkaOptions
from sluice_core.ports.event_publisher import NODES_TOPIC, UPLOADS_TOPIC
from support.catalogue_files import catalogue_file
from support.environment import process_environment
from support.kafka import first_appearances, records_in, unique_name
from support.roles import TENANT, pieces, small_world

UPLOADS = 90
KILLS = 10
LEAST_KILLS = 3

pytestmark = pytest.mark.slow


def start(url: str, servers: str, prefix: str) -> subprocess.Popen[str]:
    tests = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        [sys.executable, "-m", "support.kafka_relay", url, servers, prefix],
        env=process_environment({"PYTHONPATH": tests}),
        stdout=subprocess.PIPE,
        text=True,
    )


def relay_with_kills(url: str, servers: str, prefix: str) -> int:
    """Kill relays while they publish, then let one finish; return the number of kills.

    Stops early when nothing is left to relay, since the progress of each relay varies.
    """
    killed = 0
    while killed < KILLS:
        with start(url, servers, prefix) as process:
            assert process.stdout is not None
            pages = [process.stdout.readline() for _ in range(random.randint(1, 2))]
            if pages[-1] != "page\n":
                break
            # At a random point: publishing a page, or recording it as published.
            time.sleep(random.uniform(0.0, 0.02))
            process.kill()
            killed += 1
    with start(url, servers, prefix) as process:
        process.communicate(timeout=120)
        assert process.returncode == 0
    return killed


@pytest.mark.rule(22, 23)
async def test_random_relay_kills_keep_events_complete_and_ordered(
    kafka: KafkaOptions, tmp_path: Path
) -> None:
    prefix = f"{unique_name('relay')}."
    async with small_world(tmp_path) as world:
        nodes = []
        for number in range(UPLOADS):
            upload = await world.upload(pieces(600, 500), path=f"{number}.bin")
            await world.work()
            await world.catalogue.delete_node(TENANT, upload.new.node_id)
            nodes.append(upload.new.node_id)
        rows = await world.catalogue.outbox(10 * UPLOADS)
    url = f"sqlite:///{catalogue_file(tmp_path)}"
    killed = await asyncio.to_thread(relay_with_kills, url, kafka.bootstrap_servers, prefix)
    assert killed >= LEAST_KILLS

    uploads = await records_in(kafka, prefix + UPLOADS_TOPIC)
    deleted = await records_in(kafka, prefix + NODES_TOPIC)
    ids = {record.event_id for record in [*uploads, *deleted]}
    assert ids == {row.event.event_id for row in rows}
    for node in nodes:
        for topic, records in ((UPLOADS_TOPIC, uploads), (NODES_TOPIC, deleted)):
            expected = [
                r.event.event_id for r in rows if (r.event.key, r.event.topic) == (node, topic)
            ]
            assert first_appearances(records, node) == expected
