"""`sluice events tail` on Kafka, and the messages as kcat reads them."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.publisher import open_kafka_publisher
from sluice_core.ports.event_publisher import EventRecord
from support.cli import Sluice
from support.kafka import failed, make_topic, put, unique_name
from support.redis_server import binary


@pytest.fixture
def sluice(tmp_path: Path) -> Sluice:
    return Sluice("127.0.0.1:1", tmp_path)


async def publish(kafka: KafkaOptions, *events: EventRecord) -> None:
    async with open_kafka_publisher(kafka) as publisher:
        await publisher.publish(events)


def arguments(kafka: KafkaOptions, topic: str, *more: str) -> list[str]:
    servers = ("--bootstrap-servers", kafka.bootstrap_servers)
    return ["events", "tail", *servers, "--topic", topic, *more]


async def test_every_event_is_one_json_object(
    kafka: KafkaOptions, topic: str, sluice: Sluice
) -> None:
    await publish(kafka, failed(topic, "node-1", 1))
    outcome = await asyncio.to_thread(
        sluice.ok, *arguments(kafka, topic, "--from", "beginning", "--count", "1")
    )
    (event,) = outcome.json_lines()
    record = failed(topic, "node-1", 1)
    assert event.pop("partition") in range(4)
    assert event == {
        "specversion": "1.0",
        "id": record.event_id,
        "type": "sluice.events.v1.UploadFailed",
        "source": "sluice",
        "time": "2023-11-14T22:13:21.250000Z",
        "subject": "node-1",
        "sluicetopic": topic,
        "sluicetenant": "default",
        "traceparent": record.headers["traceparent"],
        "offset": 0,
        "datacontenttype": "application/json",
        "data": {
            "header": {"event_id": record.event_id, "tenant": "default", "sequence": "1"},
            "upload_id": "upload-of-node-1",
            "node_id": "node-1",
            "drive": "photos",
            "path": "node-1.bin",
            "reason": "TEST",
        },
    }


async def test_invalid_events_are_shown_with_their_error(
    kafka: KafkaOptions, topic: str, sluice: Sluice
) -> None:
    await make_topic(kafka, topic, 1)
    await put(kafka, topic, (b"key", b"\xff", []))
    outcome = await asyncio.to_thread(
        sluice.ok, *arguments(kafka, topic, "--from", "beginning", "--no-follow")
    )
    (shown,) = outcome.json_lines()
    assert (shown["error"], shown["key"], shown["data_base64"]) == ("NOT_AN_EVENT", "key", "/w==")


async def test_group_resumes_where_it_stopped(
    kafka: KafkaOptions, topic: str, sluice: Sluice
) -> None:
    await publish(kafka, *(failed(topic, "node-1", n) for n in range(4)))
    group = ("--group", unique_name("group"), "--from", "beginning", "--count", "2")
    seen: list[str] = []
    for _ in range(2):
        outcome = await asyncio.to_thread(sluice.ok, *arguments(kafka, topic, *group))
        seen += [event["id"] for event in outcome.json_lines()]
    assert seen == [failed(topic, "node-1", n).event_id for n in range(4)]


async def test_tail_follows_until_interrupted(
    kafka: KafkaOptions, topic: str, sluice: Sluice
) -> None:
    await publish(kafka, failed(topic, "node-1", 1))
    with sluice.start(*arguments(kafka, topic, "--from", "beginning")) as tail:
        assert tail.stdout is not None
        for number in (1, 2):
            line = await asyncio.to_thread(tail.stdout.readline)
            assert json.loads(line)["id"] == failed(topic, "node-1", number).event_id
            await publish(kafka, failed(topic, "node-1", number + 1))
        tail.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(tail.wait, 10) == 130


async def test_unreachable_kafka_exits_69_with_one_line(sluice: Sluice) -> None:
    outcome = await asyncio.to_thread(
        sluice.run, "events", "tail", "--bootstrap-servers", "127.0.0.1:9"
    )
    assert outcome.code == 69
    assert outcome.err.count("\n") == 1
    assert "EVENTS_UNAVAILABLE" in outcome.err


async def test_kcat_reads_headers_key_and_value(kafka: KafkaOptions, topic: str) -> None:
    record = failed(topic, "node-1", 1)
    await publish(replace(kafka, partitions=1), record)
    kcat = [binary("kcat"), "-b", kafka.bootstrap_servers, "-t", topic, "-C", "-e", "-q", "-D", ""]
    process = await asyncio.create_subprocess_exec(
        *kcat, "-f", r"%k %h\n%s", stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    line, _, value = out.partition(b"\n")
    assert value == record.payload
    key, _, headers = line.decode().partition(" ")
    assert key == "node-1"
    assert f"ce_id={record.event_id}" in headers.split(",")
    assert "ce_type=sluice.events.v1.UploadFailed" in headers.split(",")
