"""Creation of missing topics, as configured."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    NoError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from sluice_backends.kafka.connection import client_arguments, start_client
from sluice_backends.kafka.options import KafkaOptions
from sluice_core.concurrency.waiting import backoff_seconds
from sluice_core.errors import Unavailable

_log = structlog.get_logger(__name__)

_DESCRIBE_PAUSE_SECONDS: Final = 0.05
_MAX_DESCRIBE_PAUSE_SECONDS: Final = 0.5
_CREATION_DENIED = (
    ClusterAuthorizationFailedError,
    TopicAuthorizationFailedError,
    PolicyViolationError,
)


async def ensure_topics(
    options: KafkaOptions, topics: Collection[str], *, max_message_bytes: int | None = None
) -> None:
    """Create missing topics; existing ones are not changed.

    Concurrent calls are safe. Where only operators may create topics, existing topics suffice.
    Raise `Unavailable` EVENTS_TOPIC_MISSING, and the client's errors.
    """
    if not topics:
        return
    async with _admin(options) as admin:
        cluster = await admin.describe_cluster()
        if cluster["controller_id"] not in {broker["node_id"] for broker in cluster["brokers"]}:
            # Compatible brokers without a controller create topics on first use.
            _log.warning("topic.creation_skipped", reason="no controller", topics=sorted(topics))
            return
        answer = await admin.create_topics(
            [_new_topic(options, topic, max_message_bytes) for topic in sorted(topics)],
            timeout_ms=int(options.request_timeout_seconds * 1000),
        )
        existing: set[str] = set()
        denied: set[str] = set()
        for topic, code, *_ in answer.topic_errors:
            error = for_code(code)
            if error is NoError:
                _log.info("topic.created", topic=topic, partitions=options.partitions)
            elif error is TopicAlreadyExistsError:
                existing.add(topic)
            elif error in _CREATION_DENIED:
                denied.add(topic)
            else:
                raise _missing(topic, error)
        if existing:
            await _until_described(admin, options, existing)
        if denied:
            await _check_existing(admin, options, denied)


def _new_topic(options: KafkaOptions, topic: str, max_message_bytes: int | None) -> NewTopic:
    settings = {
        # The broker's clock: it would refuse timestamps of a producer whose clock runs ahead, and
        # retention would delete events on arrival that waited long in the outbox.
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(options.min_insync_replicas),
    }
    if max_message_bytes is not None:
        settings["max.message.bytes"] = str(max_message_bytes)
    return NewTopic(topic, options.partitions, options.replication_factor, topic_configs=settings)


async def _until_described(
    admin: AIOKafkaAdminClient, options: KafkaOptions, topics: Collection[str]
) -> None:
    """Check topics that exist according to the controller.

    Another process may have created one a moment ago: a broker describes it only once it has
    replicated the controller's metadata. Raise `Unavailable` EVENTS_TOPIC_MISSING if that takes
    longer than a request may.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + options.request_timeout_seconds
    for attempt in count(1):
        try:
            await _check_existing(admin, options, topics)
        except Unavailable:
            pause = backoff_seconds(attempt, _DESCRIBE_PAUSE_SECONDS, _MAX_DESCRIBE_PAUSE_SECONDS)
            if clock() + pause > deadline:
                raise
            await asyncio.sleep(pause)
        else:
            return


async def _check_existing(
    admin: AIOKafkaAdminClient, options: KafkaOptions, topics: Collection[str]
) -> None:
    for described in await admin.describe_topics(sorted(topics)):
        error = for_code(described["error_code"])
        if error is not NoError:
            raise _missing(described["topic"], error)
        partitions = len(described["partitions"])
        if partitions < options.partitions:
            _log.warning(
                "topic.partitions_differ",
                topic=described["topic"],
                partitions=partitions,
                configured=options.partitions,
            )


def _missing(topic: str, error: type[KafkaError]) -> Unavailable:
    return Unavailable(
        "EVENTS_TOPIC_MISSING",
        f"The topic {topic} neither exists nor can be created ({error.__name__}); create it, or"
        " set a replication factor that the cluster has brokers for.",
    )


@asynccontextmanager
async def _admin(options: KafkaOptions) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**client_arguments(options))
    try:
        await start_client(admin)
        yield admin
    finally:
        await admin.close()
