"""Access to the published events of each kind of deployment."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.log.event_log import read_events
from sluice_core.ports.event_publisher import NODES_TOPIC, UPLOADS_TOPIC, EventRecord
from support import kafka
from support.deployments import Deployment, Embedded
from support.oracle.judge import Published


def published_by(deployment: Deployment, bootstrap_servers: str | None = None) -> Published:
    """Return a function that reads what this deployment has published so far.

    Args:
        bootstrap_servers: of the test's own broker, if it does not use the shared one.
    """

    async def in_the_log() -> Sequence[EventRecord]:
        return [logged.record async for logged in read_events(deployment.data_dir / "events")]

    async def in_kafka() -> Sequence[EventRecord]:
        if bootstrap_servers is None:
            options = kafka.shared_broker().options
        else:
            options = KafkaOptions(bootstrap_servers)
        uploads = await kafka.records_in(options, UPLOADS_TOPIC)
        return [*uploads, *await kafka.records_in(options, NODES_TOPIC)]

    return in_the_log if isinstance(deployment, Embedded) else in_kafka
