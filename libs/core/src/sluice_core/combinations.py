"""Supported backend combinations: the table of docs/protocol.md, "Which combinations run". Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import product
from typing import Final

from sluice_core.configuration import ConfigurationError


class Coordination(StrEnum):
    REDIS = "redis"
    EMBEDDED = "embedded"
    MEMORY = "memory"


class ChunkTransport(StrEnum):
    REDIS = "redis"
    DIRECT = "direct"
    LOCAL = "local"


class Objects(StrEnum):
    S3 = "s3"
    FILES = "files"
    DISCARD = "discard"


class Events(StrEnum):
    KAFKA = "kafka"
    LOG = "log"
    OFF = "off"


class CatalogueKind(StrEnum):
    MYSQL = "mysql"
    SQLITE = "sqlite"
    OFF = "off"


class Durability(StrEnum):
    """What `Accepted` means (docs/protocol.md, rules 6 and 7)."""

    MEMORY = "memory"
    REPLICATED = "replicated"
    FSYNC = "fsync"


@dataclass(frozen=True, slots=True)
class BackendCombination:
    """One choice of backends. The setting of each field is `SLUICE_` and the field's name."""

    coordination: Coordination
    chunk_transport: ChunkTransport
    objects: Objects
    events: Events
    catalogue: CatalogueKind

    def differing(self, other: BackendCombination) -> tuple[str, ...]:
        """Return the fields in which two combinations differ."""
        return tuple(
            field.name
            for field in fields(self)
            if getattr(self, field.name) is not getattr(other, field.name)
        )


@dataclass(frozen=True, slots=True)
class SupportedCombination:
    """One row of the table: a set of combinations and where they run.

    `standalone_only`: all services run in one process.
    """

    name: str
    coordination: Coordination
    chunk_transport: ChunkTransport
    objects: tuple[Objects, ...]
    events: tuple[Events, ...]
    catalogue: tuple[CatalogueKind, ...]
    durability: tuple[Durability, ...]
    standalone_only: bool = False

    def combinations(self) -> Iterator[BackendCombination]:
        for objects, events, catalogue in product(self.objects, self.events, self.catalogue):
            yield BackendCombination(
                self.coordination, self.chunk_transport, objects, events, catalogue
            )


_IN_MEMORY: Final = (Durability.MEMORY,)
_IN_REDIS: Final = (Durability.MEMORY, Durability.REPLICATED, Durability.FSYNC)
_ON_DISK: Final = (Durability.MEMORY, Durability.FSYNC)
_KAFKA_OR_OFF: Final = (Events.OFF, Events.KAFKA)
_NO_CATALOGUE: Final = (CatalogueKind.OFF,)

SUPPORTED_COMBINATIONS: Final = (
    SupportedCombination(
        "standalone",
        Coordination.EMBEDDED,
        ChunkTransport.LOCAL,
        (Objects.FILES, Objects.S3),
        (Events.LOG, Events.OFF),
        (CatalogueKind.SQLITE,),
        _ON_DISK,
        standalone_only=True,
    ),
    SupportedCombination(
        "phase 1",
        Coordination.MEMORY,
        ChunkTransport.LOCAL,
        (Objects.DISCARD,),
        (Events.OFF,),
        _NO_CATALOGUE,
        _IN_MEMORY,
    ),
    SupportedCombination(
        "phase 2",
        Coordination.MEMORY,
        ChunkTransport.DIRECT,
        (Objects.DISCARD,),
        (Events.OFF,),
        _NO_CATALOGUE,
        _IN_MEMORY,
    ),
    SupportedCombination(
        "phase 3",
        Coordination.REDIS,
        ChunkTransport.REDIS,
        (Objects.DISCARD,),
        (Events.OFF,),
        _NO_CATALOGUE,
        _IN_REDIS,
    ),
    SupportedCombination(
        "phase 4",
        Coordination.REDIS,
        ChunkTransport.REDIS,
        (Objects.DISCARD,),
        (Events.KAFKA,),
        _NO_CATALOGUE,
        _IN_REDIS,
    ),
    SupportedCombination(
        "phase 5",
        Coordination.REDIS,
        ChunkTransport.REDIS,
        (Objects.S3,),
        _KAFKA_OR_OFF,
        _NO_CATALOGUE,
        _IN_REDIS,
    ),
    SupportedCombination(
        "phase 6",
        Coordination.REDIS,
        ChunkTransport.REDIS,
        (Objects.S3,),
        _KAFKA_OR_OFF,
        (CatalogueKind.MYSQL, CatalogueKind.SQLITE),
        _IN_REDIS,
    ),
)


def check_combination(
    combination: BackendCombination, durability: Durability
) -> SupportedCombination:
    """Return the row of a combination.

    Raise `ConfigurationError` for an unsupported one; the message names the nearest supported one.
    """
    row = _row_of(combination)
    if row is None:
        raise ConfigurationError(f"these backends do not run together; {_advice(combination)}")
    if durability not in row.durability:
        allowed = " or ".join(row.durability)
        raise ConfigurationError(
            f"SLUICE_DURABILITY={durability} is more than {row.name} can promise; use {allowed}"
        )
    return row


def require_separable(row: SupportedCombination) -> None:
    """Raise `ConfigurationError` when a separate service has a single-process combination."""
    if row.standalone_only:
        raise ConfigurationError(
            f"SLUICE_COORDINATION={row.coordination} ({row.name}) keeps everything in one process: "
            "use `sluice serve`"
        )


def nearest_supported(combination: BackendCombination) -> BackendCombination:
    """Return the supported combination that needs the fewest changed settings.

    The order of the table breaks ties.
    """
    supported = (candidate for row in SUPPORTED_COMBINATIONS for candidate in row.combinations())
    return min(supported, key=lambda candidate: len(combination.differing(candidate)))


def _row_of(combination: BackendCombination) -> SupportedCombination | None:
    return next((row for row in SUPPORTED_COMBINATIONS if combination in row.combinations()), None)


def _advice(combination: BackendCombination) -> str:
    nearest = nearest_supported(combination)
    row = _row_of(nearest)
    assert row is not None
    changes = _assignments(nearest, combination.differing(nearest))
    return f"the nearest that runs is {row.name}: set {changes}"


def _assignments(combination: BackendCombination, names: tuple[str, ...]) -> str:
    return " ".join(f"SLUICE_{name.upper()}={getattr(combination, name)}" for name in names)
