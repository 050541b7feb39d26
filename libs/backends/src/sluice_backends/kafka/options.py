"""Connection and tuning options of the Kafka clients."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import SecretStr

from sluice_core.configuration import ConfigurationError

KIB = 1024


class SecurityProtocol(StrEnum):
    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class SaslMechanism(StrEnum):
    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """Options of one Kafka cluster.

    Raise `ConfigurationError` for options that can never work.
    """

    bootstrap_servers: str
    """`host:port`, separated by commas."""

    partitions: int = 12
    """Of created topics. Adding partitions later moves keys to other partitions; the order of
    events before and after the change is then not guaranteed."""

    replication_factor: int = 1
    """Of created topics; from 3 on, every write needs two replicas in sync."""

    client_id: str = "sluice"
    security_protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT
    sasl_mechanism: SaslMechanism = SaslMechanism.SCRAM_SHA_512
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    """Trusted authorities, PEM; by default those of the system."""
    certificate_file: Path | None = None
    """Client certificate for mutual TLS, PEM; its key is in `key_file` or in the same file."""
    key_file: Path | None = None

    schema_registry_url: str | None = None
    """If set, values carry the Confluent frame and their schemas are registered there."""
    schema_registry_credentials: SecretStr | None = None
    """`user:password`."""
    schema_registry_ca_file: Path | None = None
    """Trusted authorities of the registry, PEM; by default well-known public ones."""

    connect_timeout_seconds: float = 5.0
    """Limit of connecting to a broker, with its login."""
    request_timeout_seconds: float = 5.0
    """Limit of one request; unanswered requests are sent again."""
    publish_timeout_seconds: float = 30.0
    """Limit of one publish call. The caller's deadline may cancel it earlier."""
    batch_bytes: int = 256 * KIB
    """Size of a batch, which is sent and appended as a whole. Memory: one batch per partition."""
    max_event_bytes: int = 960 * KIB
    """A larger event is refused. A broker's default limit is 1 MiB, framing included."""

    def __post_init__(self) -> None:
        if not self.servers:
            raise ConfigurationError("Kafka: bootstrap_servers names no broker; write host:port")
        for server in self.servers:
            host, _, port = server.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise ConfigurationError(
                    "Kafka: bootstrap_servers is no list of servers; write host:port,host:port…"
                )
        if self.partitions < 1 or self.replication_factor < 1:
            raise ConfigurationError(
                "Kafka: partitions or replication_factor is below 1; set at least 1"
            )
        if self.uses_sasl and (self.username is None or self.password is None):
            raise ConfigurationError(
                f"Kafka: {self.security_protocol} needs a username and a password; set both"
            )

    @property
    def servers(self) -> tuple[str, ...]:
        """Bootstrap servers, split."""
        return tuple(
            server.strip() for server in self.bootstrap_servers.split(",") if server.strip()
        )

    @property
    def uses_sasl(self) -> bool:
        return self.security_protocol in (
            SecurityProtocol.SASL_PLAINTEXT,
            SecurityProtocol.SASL_SSL,
        )

    @property
    def uses_tls(self) -> bool:
        return self.security_protocol in (SecurityProtocol.SSL, SecurityProtocol.SASL_SSL)

    @property
    def min_insync_replicas(self) -> int:
        """Replicas that must have an event before it counts as published.

        Two of three, so that one broker may fail; with fewer replicas one, since more would stop
        publishing at the first failure.
        """
        return 2 if self.replication_factor >= 3 else 1
