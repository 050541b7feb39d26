"""What every client of a cluster is made with."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import structlog
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError
from aiokafka.helpers import create_ssl_context

from sluice_backends.kafka.errors import CREDENTIALS
from sluice_backends.kafka.options import KafkaOptions
from sluice_core.configuration import ConfigurationError

_log = structlog.get_logger(__name__)
_LAST_MOMENT_SECONDS = 1.0


def client_arguments(options: KafkaOptions) -> dict[str, Any]:
    """Arguments that producers, consumers and admin clients share.

    Reads the TLS files. Raises `ConfigurationError` when they cannot be used.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": list(options.servers),
        "client_id": options.client_id,
        "request_timeout_ms": int(options.request_timeout_seconds * 1000),
        "security_protocol": options.security_protocol.value,
    }
    if options.uses_tls:
        arguments["ssl_context"] = _tls(options)
    if options.uses_sasl and options.password is not None:
        arguments["sasl_mechanism"] = options.sasl_mechanism.value
        arguments["sasl_plain_username"] = options.username
        arguments["sasl_plain_password"] = options.password.get_secret_value()
    return arguments


def _tls(options: KafkaOptions) -> ssl.SSLContext:
    try:
        context: ssl.SSLContext = create_ssl_context(
            cafile=options.ca_file, certfile=options.certificate_file, keyfile=options.key_file
        )
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"Kafka: the TLS files cannot be used: {error.strerror or 'not PEM'}"
        ) from error
    return context


async def start_client(client: Any) -> None:
    """Start one of the library's clients.

    A start that is cancelled forgets the connection that it is just making, so it is not: it gets
    a moment to come to its own end, and then the caller, who is cancelled, stops the client.
    """
    starting = asyncio.ensure_future(client.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        done, _ = await asyncio.wait([starting], timeout=_LAST_MOMENT_SECONDS)
        if not done:
            starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        raise


async def check_login(options: KafkaOptions) -> bool:
    """Whether some broker lets us in; the clients themselves do not say why they cannot start.

    A broker that is away is no error: Kafka may come later. Raises `ConfigurationError` when a
    broker refuses the credentials.
    """
    arguments = client_arguments(options)
    del arguments["bootstrap_servers"]
    for server in options.servers:
        host, _, port = server.rpartition(":")
        try:
            async with asyncio.timeout(options.connect_timeout_seconds):
                connection = await create_conn(host.strip("[]"), int(port), **arguments)
        except CREDENTIALS as error:
            raise ConfigurationError(
                f"Kafka: {server} refuses the credentials; check username, password and mechanism"
            ) from error
        except (OSError, TimeoutError, KafkaError) as error:
            _log.warning("kafka_broker_away", server=server, error=repr(error))
            continue
        connection.close()
        return True
    return False
