"""Events that a consumer cannot handle: retries, dead letters, other partitions."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from aiokafka import TopicPartition

from sluice_backends.kafka.dead_letters import dead_letter_topic
from sluice_backends.kafka.handling import ConsumerOptions
from sluice_backends.kafka.headers import to_headers
from sluice_backends.kafka.metrics import ConsumerMetrics
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.receiving import ReceivedEvent
from sluice_backends.kafka.retry_topics import DelayedRetries
from sluice_core.errors import FailedPrecondition, InvalidArgument, Unavailable
from sluice_core.ports.event_publisher import EventRecord
from support.kafka import TYPE, committed, failed, make_topic, messages_in, put
from support.kafka_consumer import Handled, letters, publish, running
from support.waiting import until


async def test_failing_event_is_retried(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    events = [failed(topic, "node-1", n) for n in range(3)]
    await publish(kafka, *events)
    handled = Handled()
    handled.fails = lambda event: (
        Unavailable("DATABASE_UNAVAILABLE", "Later.")
        if handled.calls[event.record.event_id] < 4
        else None
    )
    metrics, labels = ConsumerMetrics(), {"group": options.group}
    async with running(kafka, options, handled, metrics=metrics):
        await until(lambda: len(handled.events) == 3)
    assert handled.ids() == [event.event_id for event in events]
    assert metrics.registry.get_sample_value("sluice_dead_letters_total", labels) == 0


async def test_exhausted_retries_write_a_dead_letter_with_its_cause(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    bad, good = failed(topic, "node-1", 1), failed(topic, "node-1", 2)
    await publish(kafka, bad, good)
    handled = Handled(fails=lambda event: RuntimeError("broken") if event.record == bad else None)
    metrics, labels = ConsumerMetrics(), {"group": options.group}
    async with running(kafka, options, handled, metrics=metrics):
        await until(lambda: len(handled.events) == 1)
    assert metrics.registry.get_sample_value("sluice_dead_letters_total", labels) == 1
    assert handled.calls[bad.event_id] == 5
    assert handled.ids() == [good.event_id]
    (message,) = await messages_in(kafka, dead_letter_topic(topic, options.group))
    assert (message.key, message.value) == (b"node-1", bad.payload)
    headers = dict(message.headers)
    assert {name: headers[name] for name, _ in to_headers(bad)} == dict(to_headers(bad))
    assert headers["dlq_reason"] == b"HANDLER_FAILED"
    assert headers["dlq_detail"] == b"RuntimeError('broken')"
    assert (headers["dlq_attempts"], headers["dlq_topic"]) == (b"5", topic.encode())


async def test_permanent_error_is_a_dead_letter_at_once(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    await publish(kafka, failed(topic, "node-1", 1), failed(topic, "node-1", 2))
    bad = failed(topic, "node-1", 1)
    handled = Handled(
        fails=lambda event: (
            InvalidArgument("NO_SUCH_THING", "Never.") if event.record == bad else None
        )
    )
    async with running(kafka, options, handled):
        await until(lambda: len(handled.events) == 1)
    (letter,) = await letters(kafka, options)
    assert (letter["dlq_reason"], letter["dlq_attempts"]) == (b"NO_SUCH_THING", b"1")


async def test_hanging_handler_blocks_its_partition_for_bounded_time(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    await make_topic(kafka, topic, 1)
    await publish(kafka, failed(topic, "node-1", 1), failed(topic, "node-1", 2))
    done: list[str] = []

    async def handler(event: ReceivedEvent) -> None:
        if event.record.event_id == failed(topic, "node-1", 1).event_id:
            await asyncio.Event().wait()
        done.append(event.record.event_id)

    async with running(kafka, replace(options, handling_seconds=0.5), handler):
        await until(lambda: len(done) == 1, seconds=15)
    (letter,) = await letters(kafka, options)
    assert letter["dlq_reason"] == b"HANDLER_TIMEOUT"


async def test_timeouts_go_to_the_retry_topic_first(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    """Any member of the group retries, with delay and limit; then the event is a dead letter."""
    slow, good = failed(topic, "node-1", 1), failed(topic, "node-2", 1)
    await publish(kafka, slow)
    tries: list[int] = []

    def fails(event: ReceivedEvent) -> Exception | None:
        if event.record.key != slow.key:
            return None
        assert event.record == slow
        tries.append(event.retry_number)
        return FailedPrecondition("TIMEOUT", "…")

    handled = Handled(fails=fails)
    patient = replace(options, delayed_retries=DelayedRetries(frozenset({"TIMEOUT"}), 2, 1.0))
    began = time.monotonic()
    async with running(kafka, patient, handled):
        await until(lambda: tries == [0])
        await publish(kafka, good)
        await until(lambda: len(handled.events) == 1)
        await until(lambda: tries == [0, 1], seconds=30)
    async with running(kafka, patient, handled):  # another process

        async def buried() -> bool:
            return len(await letters(kafka, options)) == 1

        await until(buried, seconds=30)
    assert tries == [0, 1, 2]
    assert time.monotonic() - began >= 2.0
    (letter,) = await letters(kafka, options)
    assert letter["dlq_reason"] == b"TIMEOUT"
    assert letter["dlq_topic"] == topic.encode()
    assert not any(name.startswith("retry_") for name in letter)


async def test_other_causes_are_not_postponed(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    await publish(kafka, failed(topic, "node-1", 1))
    handled = Handled(fails=lambda event: FailedPrecondition("CRASHED", "…"))
    patient = replace(options, delayed_retries=DelayedRetries(frozenset({"TIMEOUT"}), 2, 600.0))
    async with running(kafka, patient, handled):

        async def buried() -> bool:
            return len(await letters(kafka, options)) == 1

        await until(buried, seconds=30)
    assert handled.calls == {failed(topic, "node-1", 1).event_id: 1}


async def test_failing_event_blocks_no_other_partition(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    await make_topic(kafka, topic, 8)
    events = [failed(topic, f"node-{n}", 1) for n in range(64)]
    await publish(kafka, *events)
    handled = Handled(
        fails=lambda event: RuntimeError("broken") if event.record == events[0] else None
    )
    slow = replace(options, retry_base_seconds=30.0, retry_cap_seconds=30.0, drain_seconds=0.2)
    async with running(kafka, slow, handled):
        await until(lambda: handled.calls[events[0].event_id] == 1)
        await until(lambda: len(handled.events) == 63)


async def test_events_in_backoff_release_their_slots(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    await make_topic(kafka, topic, 1)
    events = [failed(topic, f"node-{n}", 1) for n in range(10)]
    bad = {event.event_id for event in events[:4]}
    await publish(kafka, *events)
    handled = Handled(
        fails=lambda event: RuntimeError("broken") if event.record.event_id in bad else None
    )
    slow = replace(options, retry_base_seconds=600.0, retry_cap_seconds=600.0, concurrency=2)
    async with running(kafka, slow, handled):
        await until(lambda: len(handled.events) == 6)


def _with(event: EventRecord, **headers: str) -> list[tuple[str, bytes]]:
    named = {name.replace("content_type", "content-type"): v for name, v in headers.items()}
    return list({**dict(to_headers(event)), **{n: v.encode() for n, v in named.items()}}.items())


WHOLE = failed("any", "node-1", 1)
POISON: dict[str, tuple[bytes | None, bytes, list[tuple[str, bytes]], bytes]] = {
    "not protobuf": (b"node-1", b"\xff\xff\xff", to_headers(WHOLE), b"NOT_PROTOBUF"),
    "a torn frame": (b"node-1", b"\x00\x00", to_headers(WHOLE), b"BAD_FRAME"),
    "no headers": (b"node-1", WHOLE.payload, [], b"NOT_AN_EVENT"),
    "a header in another encoding": (
        b"node-1",
        WHOLE.payload,
        [*to_headers(WHOLE), ("ce_x", b"\xff")],
        b"NOT_AN_EVENT",
    ),
    "unknown type": (
        b"node-1",
        WHOLE.payload,
        _with(WHOLE, ce_type="sluice.events.v1.Surprise"),
        b"UNKNOWN_TYPE",
    ),
    "unknown version": (
        b"node-1",
        WHOLE.payload,
        _with(WHOLE, ce_type=TYPE.replace("v1", "v9")),
        b"UNKNOWN_TYPE",
    ),
    "unknown envelope": (
        b"node-1",
        WHOLE.payload,
        _with(WHOLE, ce_specversion="9.0"),
        b"NOT_AN_EVENT",
    ),
    "json": (
        b"node-1",
        b"{}",
        _with(WHOLE, content_type="application/json"),
        b"NOT_AN_EVENT",
    ),
    "wrong key": (b"node-2", WHOLE.payload, to_headers(WHOLE), b"WRONG_KEY"),
    "no key": (None, WHOLE.payload, to_headers(WHOLE), b"NOT_AN_EVENT"),
    "another tenant": (
        b"node-1",
        WHOLE.payload,
        _with(WHOLE, ce_sluicetenant="other"),
        b"WRONG_TENANT",
    ),
    "another id": (b"node-1", WHOLE.payload, _with(WHOLE, ce_id="forged"), b"WRONG_ID"),
}


async def test_poison_messages_become_dead_letters(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    await make_topic(kafka, topic, 1)
    for key, value, headers, _ in POISON.values():
        await put(kafka, topic, (key, value, headers))
    good = failed(topic, "node-1", 2)
    await publish(kafka, good)
    handled = Handled()
    async with running(kafka, options, handled):
        await until(lambda: len(handled.events) == 1)
    assert handled.ids() == [good.event_id]
    reasons = {
        int(each["dlq_offset"]): each["dlq_reason"] for each in await letters(kafka, options)
    }
    assert reasons == {offset: reason for offset, (*_, reason) in enumerate(POISON.values())}


async def test_oversized_event_is_a_complete_dead_letter(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    await make_topic(kafka, topic, 1, max_message_bytes=str(8 * 1024 * 1024))
    huge = b"x" * 5_000_000
    await put(kafka, topic, (b"node-1", huge, to_headers(WHOLE)))
    good = failed(topic, "node-1", 2)
    await publish(kafka, good)
    handled = Handled()
    async with running(kafka, options, handled):
        await until(lambda: len(handled.events) == 1)
    (message,) = await messages_in(kafka, dead_letter_topic(topic, options.group))
    assert message.value == huge
    assert dict(message.headers)["dlq_reason"] == b"TOO_LARGE"


async def test_nothing_is_skipped_while_dead_letters_fail(
    kafka: KafkaOptions, options: ConsumerOptions, topic: str
) -> None:
    await make_topic(kafka, topic, 1)
    await put(kafka, topic, (b"node-1", b"\xff", []))
    await publish(kafka, failed(topic, "node-1", 1))
    handled = Handled()
    # No topic can be created with nine replicas, so not the dead letter topic either.
    async with running(replace(kafka, replication_factor=9), options, handled):
        await asyncio.sleep(3)
    assert handled.ids() == []
    assert await committed(kafka, options.group, TopicPartition(topic, 0)) is None
    async with running(kafka, options, handled):
        await until(lambda: len(handled.events) == 1)
    assert [letter["dlq_reason"] for letter in await letters(kafka, options)] == [b"NOT_AN_EVENT"]
