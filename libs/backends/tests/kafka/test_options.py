"""Unit tests: validation of Kafka options and client arguments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from sluice_backends.kafka.connection import check_login, client_arguments
from sluice_backends.kafka.options import KafkaOptions, SaslMechanism, SecurityProtocol
from sluice_backends.kafka.publisher import open_kafka_publisher
from sluice_core.configuration import ConfigurationError


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: KafkaOptions(""), "no broker"),
        (lambda: KafkaOptions(" , "), "no broker"),
        (lambda: KafkaOptions("kafka"), "host:port"),
        (lambda: KafkaOptions("kafka:0"), "host:port"),
        (lambda: KafkaOptions("kafka:9092,other"), "host:port"),
        (lambda: KafkaOptions("kafka:9092", partitions=0), "partitions"),
        (lambda: KafkaOptions("kafka:9092", replication_factor=0), "replication_factor"),
        (
            lambda: KafkaOptions("kafka:9092", security_protocol=SecurityProtocol.SASL_SSL),
            "username",
        ),
    ],
)
def test_impossible_options_are_refused(make: Callable[[], KafkaOptions], error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        make()


def test_invalid_server_list_is_not_repeated() -> None:
    """A value may hold a secret, so that the error names the setting only."""
    with pytest.raises(ConfigurationError, match="bootstrap_servers") as refused:
        KafkaOptions("kafka://user:hush@kafka")
    assert "hush" not in str(refused.value)


def test_missing_certificate_is_a_configuration_error(tmp_path: Path) -> None:
    options = KafkaOptions(
        "kafka:9092", security_protocol=SecurityProtocol.SSL, ca_file=tmp_path / "none.pem"
    )
    with pytest.raises(ConfigurationError, match="TLS"):
        client_arguments(options)


def test_invalid_certificate_is_a_configuration_error(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nonsense")
    options = KafkaOptions("kafka:9092", security_protocol=SecurityProtocol.SSL, ca_file=file)
    with pytest.raises(ConfigurationError, match="TLS"):
        client_arguments(options)


def test_credentials_reach_the_client_but_not_the_repr() -> None:
    options = KafkaOptions(
        "kafka:9092",
        security_protocol=SecurityProtocol.SASL_PLAINTEXT,
        sasl_mechanism=SaslMechanism.PLAIN,
        username="sluice",
        password=SecretStr("hush"),
    )
    arguments = client_arguments(options)
    assert arguments["sasl_mechanism"] == "PLAIN"
    assert arguments["sasl_plain_password"] == "hush"
    assert "hush" not in repr(options)


def test_min_insync_replicas_follow_the_replication_factor() -> None:
    replicas = {n: KafkaOptions("k:1", replication_factor=n).min_insync_replicas for n in (1, 2, 3)}
    assert replicas == {1: 1, 2: 1, 3: 2}


async def test_unreachable_broker_is_no_error_at_start() -> None:
    nowhere = KafkaOptions("127.0.0.1:9", connect_timeout_seconds=1)
    assert await check_login(nowhere) is False
    async with open_kafka_publisher(nowhere):
        pass


async def test_hanging_server_times_out() -> None:
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(
        lambda _reader, writer: connections.append(writer), "127.0.0.1", 0
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        options = KafkaOptions(f"127.0.0.1:{port}", connect_timeout_seconds=0.5)
        async with asyncio.timeout(5):
            assert await check_login(options) is False
        for writer in connections:
            writer.close()


async def test_invalid_registry_url_is_a_configuration_error() -> None:
    options = KafkaOptions("127.0.0.1:9", connect_timeout_seconds=1, schema_registry_url="nonsense")
    with pytest.raises(ConfigurationError, match="registry"):
        async with open_kafka_publisher(options):
            pass
