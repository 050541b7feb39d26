"""Store notifications through Kafka: handler, retries and dead letters as for events."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from sluice_backends.kafka.dead_letters import dead_letter_topic
from sluice_backends.kafka.options import KafkaOptions
from sluice_core.errors import FailedPrecondition, SluiceError, Unavailable
from sluice_core.ports.event_publisher import UPLOADS_TOPIC
from sluice_core.uploads.model import ObjectRef
from sluice_processor.metrics import ProcessorMetrics
from sluice_processor.nodes.handler import Outcome, Work
from sluice_processor.options import ProcessorOptions
from sluice_processor.sources.kafka import work_consumer
from support.kafka import begin_at, ends_of, make_topic, messages_in, put, unique_name
from support.store_notifications import aws_message, minio_message
from support.waiting import until

OPTIONS = ProcessorOptions(
    concurrency=4, attempts=3, retry_base_seconds=0.01, handling_seconds=5.0, drain_seconds=2.0
)
THUMBNAIL = ObjectRef("b", "thumbnails/n-0/0123456789abcdef/256.webp")


def ref(name: str) -> ObjectRef:
    return ObjectRef("photos bucket", f"pre fix/acme/photos/{name}")


class Handler:
    """Fake node processor; raises the `errors` of a node first."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.done: list[ObjectRef] = []
        self.final: list[bool] = []
        self.errors: dict[str, list[SluiceError]] = {}

    async def process(self, work: Work) -> Outcome:
        assert work.place is not None
        self.calls[work.node_id] += 1
        self.final.append(work.is_final)
        if self.errors.get(work.node_id):
            raise self.errors[work.node_id].pop(0)
        self.done.append(work.place.ref)
        return Outcome("processed")


@pytest.fixture
async def group(kafka: KafkaOptions) -> str:
    """Return a group that starts after the upload events of other tests."""
    name = unique_name("processor")
    await begin_at(kafka, name, await ends_of(kafka, UPLOADS_TOPIC))
    return name


@asynccontextmanager
async def running(
    kafka: KafkaOptions,
    group: str,
    topic: str,
    handler: Handler,
    metrics: ProcessorMetrics,
    options: ProcessorOptions = OPTIONS,
) -> AsyncIterator[None]:
    stop = asyncio.Event()
    consumer = work_consumer(kafka, group, topic, handler, options, metrics)  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consumer.run(stop))
        try:
            yield
        finally:
            stop.set()


def message(
    body: str, key: str | None = None
) -> tuple[bytes | None, bytes, list[tuple[str, bytes]]]:
    return (None if key is None else key.encode(), body.encode(), [])


async def test_store_notifications_are_handled(kafka: KafkaOptions, topic: str, group: str) -> None:
    handler, metrics = Handler(), ProcessorMetrics()
    await make_topic(kafka, topic, 2)
    # With a key, as MinIO writes it, and without.
    await put(
        kafka,
        topic,
        message(minio_message(ref("n-1")), f"{ref('n-1').bucket}/{ref('n-1').key}"),
        message(minio_message(ref("n-1"), "s3:ObjectRemoved:Delete"), "some key"),
        message(aws_message(ref("n-2"), ref("n-3"), THUMBNAIL, ref("n-2"))),
        message(minio_message(THUMBNAIL)),
    )
    async with running(kafka, group, topic, handler, metrics):
        await until(lambda: len(handler.done) == 3)
    assert set(handler.done) == {ref("n-1"), ref("n-2"), ref("n-3")}
    value = metrics.registry.get_sample_value
    passed = {"source": "kafka-s3", "reason": "THUMBNAIL"}
    assert value("sluice_processor_passed_total", passed) == 2
    handled = {"group": group, "topic": topic, "outcome": "handled"}
    assert value("sluice_consumer_events_total", handled) == 4


async def test_notification_timeouts_are_retried_with_delay(
    kafka: KafkaOptions, topic: str, group: str
) -> None:
    handler, metrics = Handler(), ProcessorMetrics()
    handler.errors["slow"] = [FailedPrecondition("TIMEOUT", "…")] * 2
    await make_topic(kafka, topic, 1)
    await put(kafka, topic, message(minio_message(ref("slow"))))
    options = replace(OPTIONS, retries=2, retry_seconds=0.5)
    async with running(kafka, group, topic, handler, metrics, options):
        await until(lambda: handler.done == [ref("slow")], seconds=60)
    assert handler.final == [False, False, True]
    assert await messages_in(kafka, dead_letter_topic(topic, group)) == []


async def test_invalid_or_failing_notifications_become_dead_letters(
    kafka: KafkaOptions, topic: str, group: str
) -> None:
    handler, metrics = Handler(), ProcessorMetrics()
    handler.errors["permanent"] = [FailedPrecondition("CRASHED", "Its child died.")]
    handler.errors["away"] = [Unavailable("STORE_UNAVAILABLE", "It is away.") for _ in range(9)]
    handler.errors["soon"] = [Unavailable("STORE_UNAVAILABLE", "It is away.") for _ in range(2)]
    await make_topic(kafka, topic, 1)
    bodies = [
        "no JSON",
        minio_message(ref("permanent")),
        minio_message(ref("away")),
        minio_message(ref("soon")),
        aws_message(*(ref(f"n-{number}") for number in range(5))),
    ]
    await put(kafka, topic, *(message(body) for body in bodies))
    letters = dead_letter_topic(topic, group)
    async with running(kafka, group, topic, handler, metrics):
        await until(lambda: len(handler.done) == 6)

        async def buried() -> list[tuple[str, str, str]]:
            return sorted(
                (
                    dict(raw.headers)["dlq_reason"].decode(),
                    dict(raw.headers)["dlq_attempts"].decode(),
                    raw.value.decode(),
                )
                for raw in await messages_in(kafka, letters)
            )

        async def all_are_buried() -> bool:
            return len(await buried()) == 3

        await until(all_are_buried, 30.0, "three dead letters")
    assert await buried() == [
        ("CRASHED", "1", bodies[1]),
        ("NOT_A_NOTIFICATION", "0", bodies[0]),
        ("STORE_UNAVAILABLE", "3", bodies[2]),
    ]
    assert handler.calls["soon"] == 3


async def test_every_object_of_a_message_is_tried_before_dead_letter(
    kafka: KafkaOptions, topic: str, group: str
) -> None:
    """A retryable object is retried although another one of the message fails permanently."""
    handler = Handler()
    handler.errors["permanent"] = [FailedPrecondition("CRASHED", "Its child died.")] * 3
    handler.errors["soon"] = [Unavailable("STORE_UNAVAILABLE", "It is away.")]
    await make_topic(kafka, topic, 1)
    await put(kafka, topic, message(aws_message(ref("permanent"), ref("soon"), ref("n-1"))))
    async with running(kafka, group, topic, handler, ProcessorMetrics()):
        letters = dead_letter_topic(topic, group)

        async def buried() -> bool:
            return bool(await messages_in(kafka, letters))

        await until(buried, 30.0, "the dead letter")
    assert {one.key.rpartition("/")[2] for one in handler.done} == {"soon", "n-1"}
    assert handler.calls["permanent"] == 2


async def test_repeated_notification_is_handled_again(
    kafka: KafkaOptions, topic: str, group: str
) -> None:
    """Deduplication by offset would be wrong: a recreated topic starts at offset 0 again."""
    handler = Handler()
    await make_topic(kafka, topic, 1)
    await put(kafka, topic, message(minio_message(ref("n-1"))))
    await put(kafka, topic, message(minio_message(ref("n-1"))))
    async with running(kafka, group, topic, handler, ProcessorMetrics()):
        await until(lambda: handler.calls["n-1"] == 2)
