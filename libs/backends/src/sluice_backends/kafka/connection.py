"""Connections to a Kafka cluster: client arguments, start, login check."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import structlog
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError
from aiokafka.helpers import create_ssl_context

from sluice_backends.certificates import as_tls_file_error, certificate_problem
from sluice_backends.kafka.errors import CREDENTIALS
from sluice_backends.kafka.options import KafkaOptions
from sluice_core.configuration import ConfigurationError

_log = structlog.get_logger(__name__)
_START_GRACE_SECONDS = 1.0


def client_arguments(options: KafkaOptions) -> dict[str, Any]:
    """Return the arguments that producers, consumers and admin clients share.

    Read the TLS files. Raise `ConfigurationError` when they cannot be used.
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
    with as_tls_file_error("Kafka"):
        context: ssl.SSLContext = create_ssl_context(
            cafile=options.ca_file, certfile=options.certificate_file, keyfile=options.key_file
        )
    return context


async def start_client(client: Any) -> None:
    """Start a client of the library, shielded from cancellation for a short time.

    A cancelled `start()` leaks the connection that it is opening. So a start gets
    `_START_GRACE_SECONDS` to finish; then the cancelled caller stops the client.
    """
    starting = asyncio.ensure_future(client.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        done, _ = await asyncio.wait([starting], timeout=_START_GRACE_SECONDS)
        if not done:
            starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        raise


async def check_login(options: KafkaOptions) -> bool:
    """Return True if a broker accepts the credentials, False if none can be reached.

    The clients do not report why they cannot start. An unreachable broker is no error: Kafka may
    start later. Raise `ConfigurationError` when a broker refuses the credentials, or when none
    answers and one shows a certificate that cannot be trusted.
    """
    untrusted: ConfigurationError | None = None
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
            _log.warning("kafka.connect_failed", server=server, error=repr(error))
            problem = certificate_problem(error, "SLUICE_KAFKA__CA_FILE")
            if problem is not None:
                untrusted = ConfigurationError(f"Kafka: the certificate of {server} {problem}")
            continue
        connection.close()
        return True
    if untrusted is not None:
        raise untrusted
    return False
