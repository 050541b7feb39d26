"""Settings of the remote backends; each group converts to the options of its adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import Field, PositiveInt, SecretStr, field_validator, model_validator

from sluice_backends.kafka.options import KafkaOptions, SaslMechanism, SecurityProtocol
from sluice_backends.redis.options import RedisOptions
from sluice_backends.s3.options import S3Options
from sluice_common.settings.groups import Group, Seconds
from sluice_core.configuration import ConfigurationError

_KAFKA: Final = KafkaOptions(bootstrap_servers="127.0.0.1:9092")
_S3: Final = S3Options()
_REDIS: Final = RedisOptions(url="redis://127.0.0.1:6379/0")
Fraction = Annotated[float, Field(gt=0, le=1)]


class Redis(Group):
    """Redis: ledger, chunks and work queue (docs/protocol.md, rules 15 and 22)."""

    url: str = _REDIS.url
    """`redis://[user:password@]host:port/0`, `rediss://` for TLS; any master of a cluster."""
    cluster: bool = _REDIS.cluster
    shards: PositiveInt = _REDIS.shards
    """Must be equal in every process; do not change it while uploads are in progress."""
    max_connections: PositiveInt = _REDIS.max_connections
    connect_timeout_seconds: Seconds = _REDIS.connect_timeout_seconds
    operation_timeout_seconds: Seconds = _REDIS.operation_timeout_seconds
    replicas_to_wait: PositiveInt = _REDIS.replicas_to_wait
    wait_timeout_ms: PositiveInt = _REDIS.wait_timeout_ms
    memory_high_fraction: Fraction = _REDIS.memory_high_fraction
    allow_unsafe: bool = _REDIS.allow_unsafe
    """For development: only warn if the server evicts or cannot keep the durability class."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ConfigurationError("must be a URL like redis://localhost:6379/0")
        return value

    def to_options(self) -> RedisOptions:
        return RedisOptions(**self.model_dump())


class S3(Group):
    """The object store. Without keys botocore searches the environment, the shared file, and the
    container or instance role."""

    endpoint_url: str | None = None
    """Unset for AWS; e.g. http://minio:9000 for other stores."""
    region: str = _S3.region
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    public_endpoint_url: str | None = None
    """Endpoint for browsers, if it differs from `endpoint_url`; used in presigned URLs."""
    path_style: bool | None = None
    max_connections: PositiveInt = _S3.max_connections
    max_reads: PositiveInt = _S3.max_reads
    connect_timeout_seconds: Seconds = _S3.connect_timeout_seconds
    stall_timeout_seconds: Seconds = _S3.stall_timeout_seconds
    complete_timeout_seconds: Seconds = _S3.complete_timeout_seconds
    ca_bundle: str | None = None

    def to_options(self) -> S3Options:
        return S3Options(**self.model_dump())


class Kafka(Group):
    """Kafka, to which events are published (docs/protocol.md, rule 22)."""

    bootstrap_servers: str = _KAFKA.bootstrap_servers
    """`host:port`, several separated by commas."""
    partitions: PositiveInt = _KAFKA.partitions
    """Partitions of topics that are created; likewise the replication factor."""
    replication_factor: PositiveInt = _KAFKA.replication_factor
    security_protocol: SecurityProtocol = _KAFKA.security_protocol
    sasl_mechanism: SaslMechanism = _KAFKA.sasl_mechanism
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    def to_options(
        self,
        schema_registry_url: str | None,
        schema_registry_credentials: SecretStr | None,
        schema_registry_ca_file: Path | None,
    ) -> KafkaOptions:
        return KafkaOptions(
            **self.model_dump(),
            schema_registry_url=schema_registry_url,
            schema_registry_credentials=schema_registry_credentials,
            schema_registry_ca_file=schema_registry_ca_file,
        )


class Sqs(Group):
    """SQS queue of S3 notifications for the processor. Without keys botocore searches for some,
    as for S3."""

    queue_url: str | None = None
    """URL as shown by AWS; requests go to its host. Unset: no queue."""
    region: str | None = None
    """For the signature; by default the region in the URL of an AWS queue, else us-east-1."""
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    ca_bundle: str | None = None
    wait_seconds: Annotated[int, Field(ge=1, le=20)] = 20
    """Long poll time of a receive request."""
    visibility_seconds: Annotated[int, Field(ge=3, le=43_200)] = 60
    """Visibility timeout: when the messages of a dead processor are delivered again."""

    @field_validator("queue_url")
    @classmethod
    def _is_queue(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "http://host/queue")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ConfigurationError(
                "must be a URL like https://sqs.eu-central-1.amazonaws.com/123456789012/photos,"
                " without a user in it"
            )
        if not parts.path.strip("/"):
            raise ConfigurationError("names a host but no queue; append the path of the queue")
        return value

    @model_validator(mode="after")
    def _keys_come_together(self) -> Sqs:
        if (self.access_key is None) != (self.secret_key is None):
            raise ConfigurationError(
                "access_key and secret_key come together: set both, or neither to use the role of"
                " this machine"
            )
        return self


class MySql(Group):
    """MySQL 8 or MariaDB, for the catalogue."""

    url: str = "mysql+aiomysql://127.0.0.1:3306/sluice"

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not value.startswith(("mysql+aiomysql://", "mysql://")):
            raise ConfigurationError("must be a URL like mysql://user:password@host:3306/sluice")
        return value
