"""All settings of one process, read from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import (
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from sluice_backends.kafka.options import KafkaOptions
from sluice_common.settings.backends import S3, Kafka, MySql, Redis, Sqs
from sluice_common.settings.display import PREFIX
from sluice_common.settings.gateway import Gateway
from sluice_common.settings.groups import (
    AddressSetting,
    Audit,
    Bytes,
    Grpc,
    Lifetimes,
    Limits,
    LogFormat,
    LogLevel,
    Queue,
    Reads,
    Seconds,
    Sweeper,
    Throttle,
    Workers,
)
from sluice_common.settings.processor import Processor
from sluice_common.settings.rates import Rates
from sluice_common.settings.rpc_options import MTLS_CONNECTION_AGE_SECONDS, ServerOptions
from sluice_common.settings.secret_files import SecretFiles
from sluice_common.settings.secret_policy import check_plain_settings, check_strength
from sluice_common.settings.secret_types import Headers, UserPassword
from sluice_common.settings.security import Auth, AuthMode, Tls
from sluice_core.addresses import Address
from sluice_core.combinations import (
    BackendCombination,
    CatalogueKind,
    ChunkTransport,
    Coordination,
    Durability,
    Events,
    Objects,
    SupportedCombination,
    check_combination,
)
from sluice_core.configuration import ConfigurationError
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ports.event_publisher import EVENT_TOPIC_PREFIXES
from sluice_core.uploads.model import DEFAULT_PART_BYTES, MAX_PART_BYTES, MIN_PART_BYTES

_LEDGER: Final = LedgerOptions()
_SERVER: Final = ServerOptions()


class SluiceSettings(BaseSettings):
    """The settings of one process, frozen; create them with `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        validate_default=True,
    )

    coordination: Coordination = Coordination.EMBEDDED
    chunk_transport: ChunkTransport = ChunkTransport.LOCAL
    objects: Objects = Objects.FILES
    events: Events = Events.LOG
    catalogue: CatalogueKind = CatalogueKind.SQLITE
    durability: Durability = Durability.MEMORY

    intake_address: AddressSetting = Address("127.0.0.1", 50051)
    repository_address: AddressSetting = Address("127.0.0.1", 50052)
    gateway_address: AddressSetting = Address("127.0.0.1", 8080)
    objects_address: AddressSetting = Address("127.0.0.1", 8081)
    """Where `sluice serve` serves signed URLs of objects in files."""
    metrics_address: AddressSetting = Address("127.0.0.1", 9464)
    channelz_address: AddressSetting | None = None
    """Address of channelz; off by default, because it shows every peer."""
    service_address: AddressSetting | None = None
    """Address for other services. With it, only this one (and channelz) requires the client
    certificates of `tls`; the others serve users without any."""
    repository_server: str = "127.0.0.1:50052"
    """Address of the repository for intakes (drives, direct transport): `host:port`, or a gRPC
    target such as dns:///repository:50052."""
    intake_server: str = "127.0.0.1:50051"
    """Address of the intakes for gateways (resumable uploads), in the same forms."""
    allow_insecure: bool = False
    """Allow addresses other than loopback without keys or without TLS."""

    data_dir: Path = Field(default_factory=lambda: default_data_dir(os.environ))
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] = "sluice"
    """Bucket of drives that name none."""

    migrate_on_start: bool = True
    """Migrate the catalogue's database at the start; if off, an old schema fails the start."""
    schema_registry_url: str | None = None
    """If set, events use the Confluent wire format and their schemas are registered there."""
    schema_registry_credentials: UserPassword | None = None
    """`user:password`."""
    schema_registry_ca_file: Path | None = None
    """Authorities of the registry, PEM; by default well-known public ones."""

    budget_bytes: Bytes = _LEDGER.budget_bytes
    tenant_budget_bytes: Bytes | None = None
    """Bound of each tenant; unset: see `bound_of_tenant`."""
    upload_budget_bytes: Bytes = _LEDGER.upload_budget_bytes
    part_bytes: Annotated[int, Field(ge=MIN_PART_BYTES, le=MAX_PART_BYTES)] = DEFAULT_PART_BYTES
    look_ahead_parts: PositiveInt = _LEDGER.look_ahead_parts

    log_level: LogLevel = LogLevel.INFO
    log_format: LogFormat = LogFormat.AUTO
    otlp_endpoint: str | None = None
    """OTLP/gRPC endpoint for spans, e.g. http://localhost:4317; unset means no tracing."""
    otlp_headers: Headers | None = None
    """`key=value,key=value` sent with spans; usually a token."""
    drain_seconds: Seconds = 10.0

    lifetimes: Lifetimes = Lifetimes()
    limits: Limits = Limits()
    throttle: Throttle = Throttle()
    reads: Reads = Reads()
    workers: Workers = Workers()
    sweeper: Sweeper = Sweeper()
    audit: Audit = Audit()
    queue: Queue = Queue()
    grpc: Grpc = Grpc()
    processor: Processor = Processor()
    auth: Auth = Auth()
    tls: Tls = Tls()
    rates: Rates = Rates()
    gateway: Gateway = Gateway()

    redis: Redis = Redis()
    s3: S3 = S3()
    sqs: Sqs = Sqs()
    kafka: Kafka = Kafka()
    mysql: MySql = MySql()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the command line, the environment, and the files of secrets that it names."""
        assert isinstance(env_settings, EnvSettingsSource)
        return init_settings, env_settings, SecretFiles(settings_cls, PREFIX, env_settings)

    @field_validator("otlp_endpoint", "schema_registry_url")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).scheme not in ("http", "https"):
            raise ConfigurationError("must be a URL like http://localhost:4317")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> SluiceSettings:
        if self.limits.preferred_chunk_bytes > self.limits.max_chunk_bytes:
            raise ConfigurationError(
                "SLUICE_LIMITS__PREFERRED_CHUNK_BYTES is larger than SLUICE_LIMITS__MAX_CHUNK_BYTES"
            )
        check_combination(self.combination, self.durability)
        self._check_notifications()
        if self.service_address is not None and not self.tls.require_client_cert:
            raise ConfigurationError(
                "SLUICE_SERVICE_ADDRESS is for callers with certificates: set"
                " SLUICE_TLS__REQUIRE_CLIENT_CERT=true and SLUICE_TLS__CLIENT_CA_FILE"
            )
        check_plain_settings(self, PREFIX)
        if not self.is_development:
            check_strength(self, PREFIX)
        return self

    @property
    def is_development(self) -> bool:
        """Whether only this machine, or a network that restricts access, reaches the process."""
        addresses = (
            self.intake_address,
            self.repository_address,
            self.gateway_address,
            self.objects_address,
            self.metrics_address,
            self.channelz_address,
            self.service_address,
        )
        return self.allow_insecure or all(
            address is None or address.is_loopback for address in addresses
        )

    def _check_notifications(self) -> None:
        """Check that notifications have S3 as the store and, by topic, Kafka."""
        topic, queue = "SLUICE_PROCESSOR__S3_TOPIC", "SLUICE_SQS__QUEUE_URL"
        sources = [queue] if self.sqs.queue_url is not None else []
        if self.processor.s3_topic is not None:
            sources.append(topic)
            if self.events is not Events.KAFKA:
                raise ConfigurationError(f"{topic} is a topic in Kafka: set SLUICE_EVENTS=kafka")
            if self.processor.s3_topic.startswith(EVENT_TOPIC_PREFIXES):
                raise ConfigurationError(
                    f"{topic}: this prefix is reserved for Sluice's events; choose another topic"
                )
        if sources and self.objects is not Objects.S3:
            raise ConfigurationError(
                f"{sources[0]} is for notifications of S3: set SLUICE_OBJECTS=s3"
            )

    @property
    def combination(self) -> BackendCombination:
        return BackendCombination(
            self.coordination, self.chunk_transport, self.objects, self.events, self.catalogue
        )

    @property
    def supported_combination(self) -> SupportedCombination:
        """The supported combination that this process runs."""
        return check_combination(self.combination, self.durability)

    @property
    def fsync(self) -> bool:
        return self.durability is Durability.FSYNC

    @property
    def bound_of_tenant(self) -> int:
        """Bytes of one tenant that may wait (rule 9).

        Unless it is set, one tenant leaves a quarter of the budget to the others, so that they do
        not wait for its backlog. Without keys there is only one tenant, which gets all of it.
        """
        if self.tenant_budget_bytes is not None:
            return self.tenant_budget_bytes
        if self.auth.mode is AuthMode.NONE:
            return self.budget_bytes
        return self.budget_bytes - self.budget_bytes // 4

    def to_ledger_options(self) -> LedgerOptions:
        """Return the options of the ledger."""
        return LedgerOptions(
            budget_bytes=self.budget_bytes,
            tenant_budget_bytes=self.bound_of_tenant,
            upload_budget_bytes=self.upload_budget_bytes,
            look_ahead_parts=self.look_ahead_parts,
            max_chunk_bytes=self.limits.max_chunk_bytes,
            idle_lifetime_seconds=self.lifetimes.idle_seconds,
            total_lifetime_seconds=self.lifetimes.total_seconds,
            expiry_grace_seconds=self.lifetimes.expiry_grace_seconds,
            pressure_idle_seconds=self.lifetimes.pressure_idle_seconds,
            cleanup_again_seconds=self.lifetimes.cleanup_again_seconds,
            forget_after_seconds=self.lifetimes.forget_after_seconds,
            reservation_seconds=self.lifetimes.reservation_seconds,
            # Phases 1 and 2 only measure: the bytes are never fetched.
            discard_on_accept=self.coordination is Coordination.MEMORY,
            emit_completed=self.catalogue is CatalogueKind.OFF,
        )

    def to_kafka_options(self) -> KafkaOptions:
        """Return the options of Kafka and its schema registry."""
        return self.kafka.to_options(
            self.schema_registry_url,
            self.schema_registry_credentials,
            self.schema_registry_ca_file,
        )

    def to_server_options(self) -> ServerOptions:
        """Return the options of the gRPC server."""
        return ServerOptions(
            max_message_bytes=self.limits.max_unary_message_bytes + _SERVER.envelope_bytes,
            max_concurrent_streams=self.grpc.max_concurrent_streams,
            max_concurrent_rpcs=self.grpc.max_concurrent_rpcs,
            keepalive_seconds=self.grpc.keepalive_seconds,
            keepalive_timeout_seconds=self.grpc.keepalive_timeout_seconds,
            max_connection_age_seconds=self._max_connection_age_seconds(),
            connection_grace_seconds=self.grpc.connection_grace_seconds,
            stream_window_bytes=self.grpc.stream_window_bytes,
            stream_grace_seconds=self.auth.stream_grace_seconds,
            message_seconds=self.grpc.message_seconds,
            unfinished_connection_bytes=self.grpc.unfinished_connection_bytes,
            unfinished_bytes=self.grpc.unfinished_bytes,
            reuse_port=self.grpc.reuse_port,
        )

    def _max_connection_age_seconds(self) -> float:
        if self.grpc.max_connection_age_seconds is not None:
            return self.grpc.max_connection_age_seconds
        # A connection outlives the authority that vouched for its client.
        return MTLS_CONNECTION_AGE_SECONDS if self.tls.client_ca_file is not None else 0.0


def load_settings(**overrides: object) -> SluiceSettings:
    """Read and validate the settings from the environment.

    Overrides other than None (from the command line) take precedence. Raise `ConfigurationError`
    in one line that names the setting and not its value.
    """
    given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
    try:
        return SluiceSettings(**given)
    except ValidationError as error:
        raise ConfigurationError(configuration_errors(error)) from None
    except SettingsError:
        # The text of the error quotes the value.
        raise ConfigurationError(
            "a group of settings is not valid JSON; "
            "set its members one by one, e.g. SLUICE_QUEUE__LEASE_SECONDS"
        ) from None


def configuration_errors(error: ValidationError) -> str:
    """Return all errors of the settings in one line, without their values."""
    return "; ".join(
        _one_error(detail["loc"], detail["msg"])
        for detail in error.errors(include_url=False, include_input=False, include_context=False)
    )


def _one_error(location: tuple[int | str, ...], message: str) -> str:
    text = " ".join(message.removeprefix("Value error, ").split())
    if not location:
        return text
    return f"{PREFIX}{'__'.join(str(part) for part in location).upper()}: {text}"


def default_data_dir(environment: Mapping[str, str]) -> Path:
    """Return the default data directory of a standalone server, in the XDG data directory."""
    base = environment.get("XDG_DATA_HOME", "")
    # The specification requires that a relative path is ignored.
    root = Path(base) if base.startswith("/") else Path("~/.local/share").expanduser()
    return root / "sluice"
