"""Source of news that consumes the events in Kafka, as a member of the group `gateway`."""

from __future__ import annotations

from typing import Final

from sluice_backends.kafka.consumer import EventConsumer
from sluice_backends.kafka.handling import ConsumerOptions
from sluice_backends.kafka.metrics import ConsumerMetrics
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.receiving import ReceivedEvent
from sluice_backends.kafka.retry_topics import DelayedRetries
from sluice_core.ports.event_publisher import NODES_TOPIC, UPLOADS_TOPIC
from sluice_gateway.projection.news import news_of
from sluice_gateway.projection.projector import Projector

_CONCURRENCY: Final = 64
"""Handlers at once; the projector applies their news together."""
_RETRY_LATER: Final = frozenset({"CATALOGUE_UNAVAILABLE", "HANDLER_TIMEOUT"})
_RETRIES: Final = 120
_RETRY_SECONDS: Final = 30.0
"""With the number of retries, an hour without a catalogue."""


def event_consumer(
    kafka: KafkaOptions,
    group: str,
    projector: Projector,
    metrics: ConsumerMetrics,
    drain_seconds: float,
) -> EventConsumer:
    """Return a member of the group. It retries, postpones and writes dead letters as all do.

    Events may overtake each other by retries: the projector takes them in any order.
    """

    async def handle(event: ReceivedEvent) -> None:
        news = news_of(event.record, event.message)
        if news is not None:
            await projector.project(news)

    options = ConsumerOptions(
        group=group,
        topics=(UPLOADS_TOPIC, NODES_TOPIC),
        concurrency=_CONCURRENCY,
        drain_seconds=drain_seconds,
        delayed_retries=DelayedRetries(_RETRY_LATER, _RETRIES, _RETRY_SECONDS),
    )
    return EventConsumer(kafka, options, handle, metrics=metrics)
