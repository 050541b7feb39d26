"""Tailing of events, each as one JSON object: a CloudEvent whose data is JSON too."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from google.protobuf.json_format import MessageToDict

from sluice_backends.kafka.connection import check_login
from sluice_backends.kafka.errors import unavailable
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.receiving import Start, open_consumer, parse_event
from sluice_backends.log.event_log import BEGINNING, end_of_log, read_events
from sluice_core.events.cloudevents import SOURCE, to_rfc3339
from sluice_core.events.registry import BadEvent, parse_record
from sluice_core.ports.event_publisher import EventRecord
from sluice_core.uploads.model import MIB

_LOG_POLL_SECONDS = 0.2
_KAFKA_POLL_MS = 500
_MAX_SHOWN_BYTES = 64 * MIB

Write = Callable[[str], None]
"""Writes one line, given without its newline."""


@dataclass(frozen=True, slots=True)
class TailRequest:
    """The events to print.

    `count`: stop after this many. `follow`: wait for more at the end instead of stopping.
    """

    topics: tuple[str, ...]
    start: Start
    group: str | None = None
    count: int | None = None
    follow: bool = True


async def tail_log(folder: Path, request: TailRequest, write: Write) -> None:
    """Print the events of an embedded event log."""
    position = BEGINNING
    if request.start is Start.LATEST:
        position = await end_of_log(folder)
    left = request.count
    while left != 0:
        async with aclosing(read_events(folder, position)) as events:
            async for event in events:
                position = event.position
                if event.record.topic not in request.topics:
                    continue
                write(_line(event.record))
                left = None if left is None else left - 1
                if left == 0:
                    return
        if not request.follow:
            return
        await asyncio.sleep(_LOG_POLL_SECONDS)


async def tail_kafka(options: KafkaOptions, request: TailRequest, write: Write) -> None:
    """Print the messages of Kafka topics, also those that are no valid events.

    With a group, continue where it stopped; offsets are committed after printing. Raise
    `Unavailable` EVENTS_UNAVAILABLE, `ConfigurationError` for credentials that are refused.
    """
    if not await check_login(options):
        raise unavailable(TimeoutError())
    async with open_consumer(
        options, request.topics, request.start, group=request.group
    ) as consumer:
        try:
            await _show(consumer, request, write)
        except KafkaError as error:
            raise unavailable(error) from error


async def _show(consumer: Any, request: TailRequest, write: Write) -> None:
    left = request.count
    while left != 0:
        batches = await consumer.getmany(timeout_ms=_KAFKA_POLL_MS, max_records=left)
        messages = [message for batch in batches.values() for message in batch]
        # Partitions have no common order; the time of arrival approximates one.
        for message in sorted(messages, key=lambda each: (each.timestamp, each.offset)):
            write(_message_line(message))
        left = None if left is None else left - len(messages)
        if request.group is not None and batches:
            ends = {partition: batch[-1].offset + 1 for partition, batch in batches.items()}
            await consumer.commit(ends)
        if not request.follow and not messages and await _is_at_end(consumer):
            return


async def _is_at_end(consumer: Any) -> bool:
    partitions: set[TopicPartition] = consumer.assignment()
    if not partitions:
        return False
    ends = await consumer.end_offsets(partitions)
    for partition, end in ends.items():
        if await consumer.position(partition) < end:
            return False
    return True


def _message_line(message: Any) -> str:
    place = {"partition": message.partition, "offset": message.offset}
    try:
        event = parse_event(message, _MAX_SHOWN_BYTES)
    except BadEvent as error:
        shown = {
            "error": error.reason,
            "detail": str(error),
            "sluicetopic": message.topic,
            **place,
            "key": (message.key or b"").decode(errors="replace"),
            "headers": {n: (v or b"").decode(errors="replace") for n, v in message.headers},
            "data_base64": _base64(message.value or b""),
        }
        return json.dumps(shown)
    return _line(event.record, place)


def _line(record: EventRecord, place: Mapping[str, int] | None = None) -> str:
    """Return the event with its data as JSON, or raw if this release cannot parse it."""
    shown: dict[str, Any] = {
        "specversion": "1.0",
        "id": record.event_id,
        "type": record.type,
        "source": SOURCE,
        "time": to_rfc3339(record.occurred_at),
        "subject": record.key,
        "sluicetopic": record.topic,
        "sluicetenant": record.tenant,
        **record.headers,
        **(place or {}),
    }
    try:
        message = parse_record(record)
    except BadEvent as error:
        shown |= {"error": error.reason, "data_base64": _base64(record.payload)}
    else:
        data = MessageToDict(message, preserving_proto_field_name=True)
        shown |= {"datacontenttype": "application/json", "data": data}
    return json.dumps(shown)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
