"""Every setting of every service: environment variables SLUICE_…, nested ones with `__`.

Read and validated once, when a process starts; frozen afterwards. Units stand in the names. A bad
value becomes a `ConfigurationError` of one line that names the setting and not its value.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from sluice_common.addresses import Address
from sluice_common.configuration import ConfigurationError
from sluice_common.coordination.options import LedgerOptions
from sluice_common.mixtures import (
    CatalogueKind,
    ChunkTransport,
    Coordination,
    Durability,
    Events,
    Mixture,
    Objects,
    Row,
    check_mixture,
)
from sluice_common.rpc.options import ServerOptions
from sluice_common.uploads.model import (
    DEFAULT_PART_BYTES,
    MAX_CHUNK_BYTES,
    MAX_PART_BYTES,
    MAX_UNARY_MESSAGE_BYTES,
    MIB,
    MIN_PART_BYTES,
)

PREFIX: Final = "SLUICE_"
MASKED: Final = "********"
_LEDGER: Final = LedgerOptions()
_SERVER: Final = ServerOptions()


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """`auto`: console on a terminal, else JSON."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


def _to_address(value: object) -> Address:
    return value if isinstance(value, Address) else Address.parse(str(value))


AddressSetting = Annotated[
    Address, NoDecode, PlainValidator(_to_address), PlainSerializer(str, return_type=str)
]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SecondsOrNever = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Bytes = PositiveInt


class _Group(BaseModel):
    # extra="forbid": a mistyped name inside a group is an error, not a silent default.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Lifetimes(_Group):
    """How long uploads and their traces live (docs/protocol.md, rules 9, 24 and 25)."""

    idle_seconds: Seconds = _LEDGER.idle_lifetime_seconds
    total_seconds: Seconds = _LEDGER.total_lifetime_seconds
    expiry_grace_seconds: SecondsOrNever = _LEDGER.expiry_grace_seconds
    pressure_idle_seconds: Seconds = _LEDGER.pressure_idle_seconds
    cleanup_again_seconds: SecondsOrNever = _LEDGER.cleanup_again_seconds
    forget_after_seconds: SecondsOrNever = _LEDGER.forget_after_seconds
    reservation_seconds: Seconds = _LEDGER.reservation_seconds


class Limits(_Group):
    """What one request may bring. Memory of an intake: `unary_bytes` at most for unary chunks, and
    per open stream a few blocks of 1 MiB."""

    max_chunk_bytes: Annotated[int, Field(gt=0, le=MAX_CHUNK_BYTES)] = _LEDGER.max_chunk_bytes
    preferred_chunk_bytes: Bytes = 8 * MIB
    max_unary_message_bytes: Annotated[int, Field(ge=MIB, le=MAX_UNARY_MESSAGE_BYTES)] = (
        MAX_UNARY_MESSAGE_BYTES
    )
    unary_bytes: Annotated[int, Field(ge=MAX_UNARY_MESSAGE_BYTES)] = 128 * MIB
    max_accepts_in_flight: PositiveInt = 4


class Throttle(_Group):
    """How long a chunk is delayed before it is refused, and a silent client is waited for."""

    budget_stall_seconds: Seconds = 20.0
    look_ahead_stall_seconds: Seconds = 5.0
    max_delay_seconds: Seconds = 120.0
    unary_wait_seconds: Seconds = 2.0
    retry_after_seconds: Seconds = 1.0
    chunk_stall_seconds: Seconds = 30.0


class Workers(_Group):
    """The repository's background work. Memory grows by about 4 MiB per part worker."""

    parts: PositiveInt = 8
    completions: PositiveInt = 4
    part_timeout_seconds: Seconds = 300.0
    verify_bytes_per_second: Bytes = 128 * MIB


class Sweeper(_Group):
    interval_seconds: Seconds = 10.0
    leftover_age_seconds: Seconds = 600.0
    intent_age_seconds: Seconds = 3600.0


class Queue(_Group):
    """Leases of work in hand (docs/protocol.md, rule 15)."""

    lease_seconds: Seconds = 15.0
    heartbeat_seconds: Seconds = 5.0
    max_items: PositiveInt = 100_000

    @model_validator(mode="after")
    def _one_heartbeat_may_be_lost(self) -> Queue:
        if self.lease_seconds <= 2 * self.heartbeat_seconds:
            raise ConfigurationError("lease_seconds must be more than twice heartbeat_seconds")
        return self


class Grpc(_Group):
    """Tuning of the gRPC servers; see `ServerOptions`."""

    max_concurrent_streams: PositiveInt = _SERVER.max_concurrent_streams
    max_concurrent_rpcs: PositiveInt | None = _SERVER.max_concurrent_rpcs
    keepalive_seconds: Seconds = _SERVER.keepalive_seconds
    keepalive_timeout_seconds: Seconds = _SERVER.keepalive_timeout_seconds
    max_connection_age_seconds: SecondsOrNever = _SERVER.max_connection_age_seconds
    connection_grace_seconds: Seconds = _SERVER.connection_grace_seconds
    reuse_port: bool = _SERVER.reuse_port
    reflection: bool = True


class SluiceSettings(BaseSettings):
    """The settings of one process. Make them with `load_settings`."""

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
    metrics_address: AddressSetting = Address("127.0.0.1", 9464)
    channelz_address: AddressSetting | None = None
    """Where gRPC's inner counters are served; off by default, they show every peer."""
    allow_insecure: bool = False
    """Listen without keys on addresses that strangers can reach."""

    data_dir: Path = Field(default_factory=lambda: default_data_dir(os.environ))
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] = "sluice"
    """The bucket of drives that name none."""

    budget_bytes: Bytes = _LEDGER.budget_bytes
    tenant_budget_bytes: Bytes = _LEDGER.tenant_budget_bytes
    upload_budget_bytes: Bytes = _LEDGER.upload_budget_bytes
    part_bytes: Annotated[int, Field(ge=MIN_PART_BYTES, le=MAX_PART_BYTES)] = DEFAULT_PART_BYTES
    look_ahead_parts: PositiveInt = _LEDGER.look_ahead_parts

    log_level: LogLevel = LogLevel.INFO
    log_format: LogFormat = LogFormat.AUTO
    otlp_endpoint: str | None = None
    """Where spans go (OTLP over gRPC, e.g. http://localhost:4317); unset means no tracing."""
    otlp_headers: SecretStr | None = None
    """`key=value,key=value` sent along with spans; usually a token."""
    drain_seconds: Seconds = 10.0

    lifetimes: Lifetimes = Lifetimes()
    limits: Limits = Limits()
    throttle: Throttle = Throttle()
    workers: Workers = Workers()
    sweeper: Sweeper = Sweeper()
    queue: Queue = Queue()
    grpc: Grpc = Grpc()

    @field_validator("otlp_endpoint")
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
        check_mixture(self.mixture, self.durability)
        return self

    @property
    def mixture(self) -> Mixture:
        return Mixture(
            self.coordination, self.chunk_transport, self.objects, self.events, self.catalogue
        )

    @property
    def row(self) -> Row:
        """The row of the table of mixtures that this process runs."""
        return check_mixture(self.mixture, self.durability)

    @property
    def fsync(self) -> bool:
        return self.durability is Durability.FSYNC

    def to_ledger_options(self) -> LedgerOptions:
        """What the ledger is told."""
        return LedgerOptions(
            budget_bytes=self.budget_bytes,
            tenant_budget_bytes=self.tenant_budget_bytes,
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
            # Phase 1 measures the intake alone: nobody would ever fetch the bytes.
            discard_on_accept=self.coordination is Coordination.MEMORY
            and self.chunk_transport is ChunkTransport.LOCAL,
            emit_completed=self.catalogue is CatalogueKind.OFF,
        )

    def to_server_options(self) -> ServerOptions:
        """How the gRPC server is tuned."""
        return ServerOptions(
            max_message_bytes=self.limits.max_unary_message_bytes + _SERVER.envelope_bytes,
            max_concurrent_streams=self.grpc.max_concurrent_streams,
            max_concurrent_rpcs=self.grpc.max_concurrent_rpcs,
            keepalive_seconds=self.grpc.keepalive_seconds,
            keepalive_timeout_seconds=self.grpc.keepalive_timeout_seconds,
            max_connection_age_seconds=self.grpc.max_connection_age_seconds,
            connection_grace_seconds=self.grpc.connection_grace_seconds,
            reuse_port=self.grpc.reuse_port,
        )


def load_settings(**overrides: object) -> SluiceSettings:
    """Settings from the environment; an override that is not None wins (command-line arguments).

    Raises `ConfigurationError`.
    """
    given: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
    try:
        return SluiceSettings(**given)
    except ValidationError as error:
        raise ConfigurationError(configuration_errors(error)) from None
    except SettingsError:
        # Its text quotes the value.
        raise ConfigurationError(
            "a group of settings was given as something else than JSON; "
            "set its members one by one, e.g. SLUICE_QUEUE__LEASE_SECONDS"
        ) from None


def configuration_errors(error: ValidationError) -> str:
    """What is wrong with the settings, in one line, without any value."""
    return "; ".join(
        _one_error(detail["loc"], detail["msg"])
        for detail in error.errors(include_url=False, include_input=False, include_context=False)
    )


def _one_error(location: tuple[int | str, ...], message: str) -> str:
    text = " ".join(message.removeprefix("Value error, ").split())
    if not location:
        return text
    return f"{PREFIX}{'__'.join(str(part) for part in location).upper()}: {text}"


def shown_settings(settings: SluiceSettings) -> str:
    """The effective settings, one `NAME=value` a line, secrets masked."""
    return "\n".join(f"{name}={value}" for name, value in _flat(PREFIX, settings))


def _flat(prefix: str, model: BaseModel) -> Iterator[tuple[str, str]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _flat(f"{prefix}{name.upper()}__", value)
        else:
            yield prefix + name.upper(), _shown(value)


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return MASKED
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if "://" in text and "@" in text:
        scheme, _, rest = text.partition("://")
        return f"{scheme}://{MASKED}@{rest.rpartition('@')[2]}"
    return text


def default_data_dir(environment: Mapping[str, str]) -> Path:
    """Where a standalone keeps its data when nobody says: the XDG base directory for data."""
    base = environment.get("XDG_DATA_HOME", "")
    # The specification says that a relative path there is to be ignored.
    root = Path(base) if base.startswith("/") else Path("~/.local/share").expanduser()
    return root / "sluice"
