"""How to reach Kafka, and how its clients are tuned."""

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
    """One Kafka cluster and what we ask of it.

    Raises `ConfigurationError` for what can never work.
    """

    bootstrap_servers: str
    """`host:port`, several separated by commas."""

    partitions: int = 12
    """Of topics that have to be made. Adding some later moves keys to other partitions, and the
    order of an event before and one after the change is then nobody's promise."""

    replication_factor: int = 1
    """Of topics that have to be made; from 3 on they want two replicas in sync for every write."""

    client_id: str = "sluice"
    security_protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT
    sasl_mechanism: SaslMechanism = SaslMechanism.SCRAM_SHA_512
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    """Whom to trust, PEM; without it the authorities of this machine."""
    certificate_file: Path | None = None
    """Our own certificate for mutual TLS, PEM, its key in `key_file` or beside it."""
    key_file: Path | None = None

    schema_registry_url: str | None = None
    """With it, values carry the Confluent frame and their schemas are registered there."""
    schema_registry_credentials: SecretStr | None = None
    """`user:password`."""

    connect_timeout_seconds: float = 5.0
    """To find a broker and be let in."""
    request_timeout_seconds: float = 5.0
    """One answer of a broker; requests that get none are sent again."""
    publish_timeout_seconds: float = 30.0
    """All of one call. The caller's own deadline may end it earlier."""
    batch_bytes: int = 256 * KIB
    """Events that travel and are appended together. In memory: one batch per partition."""
    max_event_bytes: int = 960 * KIB
    """A larger event is refused. A broker's default limit is 1 MiB, with everything around."""

    def __post_init__(self) -> None:
        if not self.servers:
            raise ConfigurationError("Kafka: bootstrap_servers names no broker; write host:port")
        for server in self.servers:
            host, _, port = server.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise ConfigurationError("Kafka: bootstrap_servers must be host:port,host:port…")
        if self.partitions < 1 or self.replication_factor < 1:
            raise ConfigurationError("Kafka: partitions and replication_factor begin at 1")
        if self.uses_sasl and (self.username is None or self.password is None):
            raise ConfigurationError(
                f"Kafka: {self.security_protocol} needs a username and a password"
            )

    @property
    def servers(self) -> tuple[str, ...]:
        """The bootstrap servers, one by one."""
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
        """How many replicas have an event before it counts as published. With three replicas two,
        so that one broker may be away; with fewer, any more would stop at the first absence."""
        return 2 if self.replication_factor >= 3 else 1
