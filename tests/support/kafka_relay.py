"""A relay process from a catalogue to Kafka, for tests that kill it.

python -m support.kafka_relay CATALOGUE_URL BOOTSTRAP_SERVERS TOPIC_PREFIX
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace

from sluice_backends.discard.objects import DiscardObjectStore
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.publisher import KafkaPublisher, open_kafka_publisher
from sluice_backends.memory.chunks import MemoryChunkStore
from sluice_backends.memory.ledger import MemoryLedger
from sluice_backends.memory.queue import InProcessQueue
from sluice_backends.sql.catalogue import open_catalogue
from sluice_common.settings import LogLevel
from sluice_common.telemetry.logging import configure_logging
from sluice_core.errors import Unavailable
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ports.event_publisher import EventRecord
from sluice_repository.deps import RepositoryDeps
from sluice_repository.metrics import RepositoryMetrics
from sluice_repository.options import RepositoryOptions
from sluice_repository.roles.relay import Relay


class Prefixed:
    """A publisher that prefixes topics, because all tests share one broker."""

    def __init__(self, publisher: KafkaPublisher, prefix: str) -> None:
        self._publisher = publisher
        self._prefix = prefix

    async def publish(self, events: Sequence[EventRecord]) -> None:
        await self._publisher.publish([replace(e, topic=self._prefix + e.topic) for e in events])


async def relay(url: str, servers: str, prefix: str) -> None:
    """Relay until the outbox is empty; print a line after each page, so that a test can kill it."""
    kafka = KafkaOptions(servers, partitions=3)
    async with open_catalogue(url) as catalogue, open_kafka_publisher(kafka) as publisher:
        deps = RepositoryDeps(
            ledger=MemoryLedger(LedgerOptions()),
            chunks=MemoryChunkStore(),
            queue=InProcessQueue(),
            objects=DiscardObjectStore(),
            catalogue=catalogue,
            publisher=Prefixed(publisher, prefix),
            metrics=RepositoryMetrics(),
            # The next process has the same holder name, so it need not wait for the lease.
            holder="relay",
            options=RepositoryOptions(relay_batch_events=7),
        )
        role = Relay(deps)
        while await catalogue.outbox(1):
            try:
                await role.relay_once()
                sys.stdout.write("page\n")
                sys.stdout.flush()
            except Unavailable:
                await asyncio.sleep(0.05)


if __name__ == "__main__":
    configure_logging(LogLevel.ERROR)
    asyncio.run(relay(*sys.argv[1:4]))
