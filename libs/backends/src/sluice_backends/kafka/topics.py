"""Topics that are made when they are absent, as configured."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

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
from sluice_core.errors import Unavailable

_log = structlog.get_logger(__name__)
_NOT_OURS_TO_MAKE = (
    ClusterAuthorizationFailedError,
    TopicAuthorizationFailedError,
    PolicyViolationError,
)


async def ensure_topics(
    options: KafkaOptions, topics: Collection[str], *, max_message_bytes: int | None = None
) -> None:
    """Make those of the topics that do not exist; one that does is left as it is.

    Two processes may do this at once. Where only the operators may make topics, it is enough that
    the topics are there. Raises `Unavailable` EVENTS_TOPIC_MISSING, and what the client raises.
    """
    if not topics:
        return
    async with _admin(options) as admin:
        cluster = await admin.describe_cluster()
        if cluster["controller_id"] not in {broker["node_id"] for broker in cluster["brokers"]}:
            # Compatible brokers without one make topics when they are first asked for.
            _log.warning("no_controller_to_make_topics", topics=sorted(topics))
            return
        answer = await admin.create_topics(
            [_new_topic(options, topic, max_message_bytes) for topic in sorted(topics)],
            timeout_ms=int(options.request_timeout_seconds * 1000),
        )
        there: set[str] = set()
        for topic, code, *_ in answer.topic_errors:
            error = for_code(code)
            if error is NoError:
                _log.info("topic_made", topic=topic, partitions=options.partitions)
            elif error is TopicAlreadyExistsError or error in _NOT_OURS_TO_MAKE:
                there.add(topic)
            else:
                raise _cannot_make(topic, error)
        if there:
            await _look_at(admin, options, there)


def _new_topic(options: KafkaOptions, topic: str, max_message_bytes: int | None) -> NewTopic:
    settings = {
        # The broker's clock counts: with ours, a clock that runs ahead would be refused, and
        # events that waited long in the outbox would be old enough to be deleted on arrival.
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(options.min_insync_replicas),
    }
    if max_message_bytes is not None:
        settings["max.message.bytes"] = str(max_message_bytes)
    return NewTopic(topic, options.partitions, options.replication_factor, topic_configs=settings)


async def _look_at(
    admin: AIOKafkaAdminClient, options: KafkaOptions, topics: Collection[str]
) -> None:
    for described in await admin.describe_topics(sorted(topics)):
        error = for_code(described["error_code"])
        if error is not NoError:
            raise _cannot_make(described["topic"], error)
        partitions = len(described["partitions"])
        if partitions < options.partitions:
            _log.warning(
                "topic_has_fewer_partitions",
                topic=described["topic"],
                partitions=partitions,
                configured=options.partitions,
            )


def _cannot_make(topic: str, error: type[KafkaError]) -> Unavailable:
    return Unavailable(
        "EVENTS_TOPIC_MISSING",
        f"The topic {topic} can neither be found nor made ({error.__name__}); make it, or set a"
        " replication factor that the cluster has brokers for.",
    )


@asynccontextmanager
async def _admin(options: KafkaOptions) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**client_arguments(options))
    try:
        await start_client(admin)
        yield admin
    finally:
        await admin.close()
