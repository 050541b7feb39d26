"""Kafka by SASL_SSL: a verified broker, and certificates that are refused in one clear line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from sluice_backends.kafka.connection import check_login
from sluice_backends.kafka.consumer import EventConsumer
from sluice_backends.kafka.handling import ConsumerOptions
from sluice_backends.kafka.publisher import open_kafka_publisher
from sluice_backends.kafka.receiving import ReceivedEvent
from sluice_core.configuration import ConfigurationError
from support.certificates import REFUSED, Authority
from support.kafka import failed, unique_name
from support.kafka_tls import TlsKafkaBroker

GOOD = "good"
SECONDS = 60.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsKafkaBroker]:
    authority = Authority()
    certificates = {name: refused.issue(authority) for name, refused in REFUSED.items()}
    folder: Path = tmp_path_factory.mktemp("kafka")
    running = TlsKafkaBroker(folder, authority, {GOOD: authority.issue(), **certificates})
    try:
        asyncio.run(running.start())
        yield running
    finally:
        running.kill()


async def test_events_travel_by_sasl_ssl(broker: TlsKafkaBroker) -> None:
    """Producer, admin client and consumer all use the connection's options."""
    options, topic = broker.tls_options(GOOD), unique_name()
    events = [failed(topic, "node-1", number) for number in range(20)]
    received: list[str] = []
    stop = asyncio.Event()

    async def handle(event: ReceivedEvent) -> None:
        received.append(event.event_id)
        if len(received) == len(events):
            stop.set()

    async with open_kafka_publisher(options) as publisher:
        await publisher.publish(events)
    consumer = EventConsumer(options, ConsumerOptions(unique_name("group"), (topic,)), handle)
    async with asyncio.timeout(SECONDS):
        await consumer.run(stop)
    assert received == [event.event_id for event in events]


@pytest.mark.parametrize("kind", REFUSED)
async def test_certificate_is_refused_in_one_line(broker: TlsKafkaBroker, kind: str) -> None:
    options = broker.tls_options(kind)
    with pytest.raises(ConfigurationError) as caught:
        async with open_kafka_publisher(options):
            pytest.fail("trusted")
    line = f"Kafka: the certificate of {options.bootstrap_servers} {REFUSED[kind].problem}; "
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


async def test_one_trusted_broker_is_enough(broker: TlsKafkaBroker) -> None:
    """One expired certificate in a cluster must not stop a process that can use the others."""
    servers = [broker.tls_options(name).bootstrap_servers for name in ("expired", GOOD)]
    options = replace(broker.tls_options(GOOD), bootstrap_servers=",".join(servers))
    assert await check_login(options)


async def test_wrong_password_is_refused_by_sasl_ssl(broker: TlsKafkaBroker) -> None:
    options = replace(broker.tls_options(GOOD), password=SecretStr("wrong"))
    with pytest.raises(ConfigurationError, match="refuses the credentials") as caught:
        await check_login(options)
    assert "wrong" not in str(caught.value)
