"""Groups of settings and types of single settings. Names include units."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PositiveInt,
    model_validator,
)
from pydantic_settings import NoDecode

from sluice_common.settings.rpc_options import MAX_STREAM_WINDOW_BYTES, ServerOptions
from sluice_core.addresses import Address
from sluice_core.configuration import ConfigurationError
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.model import MAX_CHUNK_BYTES, MAX_UNARY_MESSAGE_BYTES, MIB

_LEDGER: Final = LedgerOptions()
_SERVER: Final = ServerOptions()


class LogLevel(StrEnum):
    """Log levels."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """Log formats; `auto` is console on a terminal, else JSON."""

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


class Group(BaseModel):
    """Base of the groups: frozen, and strict about names."""

    # extra="forbid": a mistyped name inside a group is an error, not a silent default.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, values: object) -> object:
        """Ignore empty values, as for settings outside of groups."""
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value != ""}


class Lifetimes(Group):
    """Lifetimes of uploads and their records (docs/protocol.md, rules 9, 24 and 25)."""

    idle_seconds: Seconds = _LEDGER.idle_lifetime_seconds
    total_seconds: Seconds = _LEDGER.total_lifetime_seconds
    expiry_grace_seconds: SecondsOrNever = _LEDGER.expiry_grace_seconds
    pressure_idle_seconds: Seconds = _LEDGER.pressure_idle_seconds
    cleanup_again_seconds: SecondsOrNever = _LEDGER.cleanup_again_seconds
    forget_after_seconds: SecondsOrNever = _LEDGER.forget_after_seconds
    reservation_seconds: Seconds = _LEDGER.reservation_seconds


class Limits(Group):
    """Limits of requests. Memory of an intake: at most `unary_bytes` for unary chunks, plus a few
    blocks of 1 MiB and the window (`Grpc`) of each sending stream."""

    max_chunk_bytes: Annotated[int, Field(gt=0, le=MAX_CHUNK_BYTES)] = _LEDGER.max_chunk_bytes
    preferred_chunk_bytes: Bytes = 8 * MIB
    max_unary_message_bytes: Annotated[int, Field(ge=MIB, le=MAX_UNARY_MESSAGE_BYTES)] = (
        MAX_UNARY_MESSAGE_BYTES
    )
    unary_bytes: Annotated[int, Field(ge=MAX_UNARY_MESSAGE_BYTES)] = 128 * MIB
    unary_yield_seconds: Seconds = 1.0
    """A unary chunk that takes longer to arrive gives up its permit if others wait."""
    max_accepts_in_flight: PositiveInt = 4


class Throttle(Group):
    """Delays of chunks before they are refused, and time limits for silent clients."""

    budget_stall_seconds: Seconds = 20.0
    look_ahead_stall_seconds: Seconds = 5.0
    max_delay_seconds: Seconds = 120.0
    unary_wait_seconds: Seconds = 2.0
    retry_after_seconds: Seconds = 1.0
    chunk_stall_seconds: Seconds = 30.0
    chunk_fair_bytes: Bytes = 256 * 1024


class Reads(Group):
    """Limits of concurrent ReadNode calls of one process: in total, per tenant, per connection.

    `wait_seconds` is the wait for a free slot. A reader that takes no data loses its slot after
    `yield_seconds` if others wait, and after `stall_seconds` in any case.
    """

    max_readers: PositiveInt = 48
    per_tenant: PositiveInt = 36
    per_connection: PositiveInt = 16
    wait_seconds: Seconds = 10.0
    yield_seconds: Seconds = 5.0
    stall_seconds: Seconds = 45.0


class Workers(Group):
    """Background work of the repository; about 4 MiB of memory per part worker."""

    parts: PositiveInt = 16
    completions: PositiveInt = 4
    part_timeout_seconds: Seconds = 300.0
    verify_bytes_per_second: Bytes = 128 * MIB


class Sweeper(Group):
    """Interval of the sweeper, and ages at which it cleans up."""

    interval_seconds: Seconds = 10.0
    leftover_age_seconds: Seconds = 600.0
    intent_age_seconds: Seconds = 3600.0


class Audit(Group):
    """Audit log (docs/security.md). 0 keeps its entries for ever."""

    retention_days: Annotated[int, Field(ge=0, le=36_500)] = 365


class Queue(Group):
    """Leases of work items (docs/protocol.md, rule 15)."""

    lease_seconds: Seconds = 15.0
    heartbeat_seconds: Seconds = 5.0
    max_items: PositiveInt = 100_000

    @model_validator(mode="after")
    def _one_heartbeat_may_be_lost(self) -> Queue:
        if self.lease_seconds <= 2 * self.heartbeat_seconds:
            raise ConfigurationError("lease_seconds must be more than twice heartbeat_seconds")
        return self


class Grpc(Group):
    """Tuning of the gRPC servers; see `ServerOptions`."""

    max_concurrent_streams: PositiveInt = _SERVER.max_concurrent_streams
    max_concurrent_rpcs: PositiveInt | None = _SERVER.max_concurrent_rpcs
    keepalive_seconds: Seconds = _SERVER.keepalive_seconds
    keepalive_timeout_seconds: Seconds = _SERVER.keepalive_timeout_seconds
    max_connection_age_seconds: SecondsOrNever | None = None
    """0: never. Unset: never, or an hour with client certificates, so that an authority that was
    removed stops counting."""
    connection_grace_seconds: Seconds = _SERVER.connection_grace_seconds
    stream_window_bytes: Annotated[int, Field(ge=0, le=MAX_STREAM_WINDOW_BYTES)] = (
        _SERVER.stream_window_bytes
    )
    message_seconds: Seconds = _SERVER.message_seconds
    unfinished_connection_bytes: Bytes = _SERVER.unfinished_connection_bytes
    unfinished_bytes: Bytes = _SERVER.unfinished_bytes
    reuse_port: bool = _SERVER.reuse_port
    reflection: bool = True
