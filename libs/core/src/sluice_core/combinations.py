"""Which backends run together: the table of docs/protocol.md, "Which mixtures run". Pure."""

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
class Mixture:
    """One choice of backends; `SLUICE_` and the field's name is the setting of each."""

    coordination: Coordination
    chunk_transport: ChunkTransport
    objects: Objects
    events: Events
    catalogue: CatalogueKind

    def differing(self, other: Mixture) -> tuple[str, ...]:
        """The fields in which two mixtures differ."""
        return tuple(
            field.name
            for field in fields(self)
            if getattr(self, field.name) is not getattr(other, field.name)
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: the mixtures that it stands for, and where they run.

    `standalone_only`: needs everything in one process.
    """

    name: str
    coordination: Coordination
    chunk_transport: ChunkTransport
    objects: tuple[Objects, ...]
    events: tuple[Events, ...]
    catalogue: tuple[CatalogueKind, ...]
    durability: tuple[Durability, ...]
    standalone_only: bool = False

    def mixtures(self) -> Iterator[Mixture]:
        for objects, events, catalogue in product(self.objects, self.events, self.catalogue):
            yield Mixture(self.coordination, self.chunk_transport, objects, events, catalogue)


_IN_MEMORY: Final = (Durability.MEMORY,)
_IN_REDIS: Final = (Durability.MEMORY, Durability.REPLICATED, Durability.FSYNC)
_ON_DISK: Final = (Durability.MEMORY, Durability.FSYNC)
_KAFKA_OR_OFF: Final = (Events.OFF, Events.KAFKA)
_NO_CATALOGUE: Final = (CatalogueKind.OFF,)

ROWS: Final = (
    Row(
        "standalone",
        Coordination.EMBEDDED,
        ChunkTransport.LOCAL,
        (Objects.FILES, Objects.S3),
        (Events.LOG, Events.OFF),
        (CatalogueKind.SQLITE,),
        _ON_DISK,
        standalone_only=True,
    ),
    Row(
        "phase 1",
        Coordination.MEMORY,
        ChunkTransport.LOCAL,
        (Objects.DISCARD,),
        (Events.OFF,),
        _NO_CATALOGUE,
        _IN_MEMORY,
    ),
    Row(
        "phase 2",
        Coordination.MEMORY,
        ChunkTransport.DIRECT,
        (Objects.DISCARD,),
        (Events.OFF,),
        _NO_CATALOGUE,
        _IN_MEMORY,
    ),
    Row(
        "phase 3",
        Coordination.REDIS,
        ChunkTransport.REDIS,
        (Objects.DISCARD,),
        (Events.OFF,),
        _NO_CATALOGUE,
        _IN_REDIS,
    ),
    Row(
        "phase 4",
        Coordination.REDIS,
        ChunkTransport.REDIS,
        (Objects.DISCARD,),
        (Events.KAFKA,),
        _NO_CATALOGUE,
        _IN_REDIS,
    ),
    Row(
        "phase 5",
        Coordination.REDIS,
        ChunkTransport.REDIS,
        (Objects.S3,),
        _KAFKA_OR_OFF,
        _NO_CATALOGUE,
        _IN_REDIS,
    ),
    Row(
        "phase 6",
        Coordination.REDIS,
        ChunkTransport.REDIS,
        (Objects.S3,),
        _KAFKA_OR_OFF,
        (CatalogueKind.MYSQL, CatalogueKind.SQLITE),
        _IN_REDIS,
    ),
)


def check_mixture(mixture: Mixture, durability: Durability) -> Row:
    """The row that a mixture belongs to.

    Raises `ConfigurationError` naming the nearest mixture that runs, when this one does not.
    """
    row = _row_of(mixture)
    if row is None:
        raise ConfigurationError(f"these backends do not run together; {_advice(mixture)}")
    if durability not in row.durability:
        allowed = " or ".join(row.durability)
        raise ConfigurationError(
            f"SLUICE_DURABILITY={durability} is more than {row.name} can promise; use {allowed}"
        )
    return row


def check_apart(row: Row) -> None:
    """Raise `ConfigurationError` for a mixture that is one process, for a service that is apart."""
    if row.standalone_only:
        raise ConfigurationError(
            f"SLUICE_COORDINATION={row.coordination} ({row.name}) keeps everything in one process: "
            "use `sluice serve`"
        )


def nearest_running(mixture: Mixture) -> Mixture:
    """The mixture of the table that needs the fewest settings changed; the order of the table
    decides between equals."""
    running = (candidate for row in ROWS for candidate in row.mixtures())
    return min(running, key=lambda candidate: len(mixture.differing(candidate)))


def _row_of(mixture: Mixture) -> Row | None:
    return next((row for row in ROWS if mixture in row.mixtures()), None)


def _advice(mixture: Mixture) -> str:
    nearest = nearest_running(mixture)
    row = _row_of(nearest)
    assert row is not None
    changes = _named(nearest, mixture.differing(nearest))
    return f"the nearest that runs is {row.name}: set {changes}"


def _named(mixture: Mixture, names: tuple[str, ...]) -> str:
    return " ".join(f"SLUICE_{name.upper()}={getattr(mixture, name)}" for name in names)
