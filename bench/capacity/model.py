"""From a load and the cost of each service to what a deployment needs. Pure.

Every amount is proportional to the load until it is rounded up to whole pods, shards or partitions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bench.capacity import facts
from bench.capacity.costs import Costs
from bench.capacity.facts import Basis
from bench.capacity.shipped import Shipped
from bench.units import GIB, MIB

_NOISE: Final = 1e-9
"""Relative: 3.0000000001 pods of rounding are three."""


class Integrity(StrEnum):
    """The drive's policy (docs/protocol.md, rule 20), as far as its cost was measured."""

    CRC = "crc"
    SHA256_ASYNC = "sha256_async"


@dataclass(frozen=True, slots=True)
class Load:
    """What clients send. `photo_share`: the fraction of the files that the processor decodes."""

    bytes_per_second: float
    objects: float
    file_bytes: float
    photo_share: float
    stream_bytes_per_second: float
    integrity: Integrity = Integrity.SHA256_ASYNC

    def __post_init__(self) -> None:
        positive = (
            self.bytes_per_second,
            self.objects,
            self.file_bytes,
            self.stream_bytes_per_second,
        )
        if min(positive) <= 0 or not 0 <= self.photo_share <= 1:
            raise ValueError("a load is more than 0, and the share of photos 0 to 1")

    @property
    def files_per_second(self) -> float:
        return self.bytes_per_second / self.file_bytes

    @property
    def photos_per_second(self) -> float:
        return self.files_per_second * self.photo_share


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a pod may use: `core_share` cores, of which the fraction `headroom` stays free."""

    core_share: float = 1.0
    headroom: float = 0.3

    def __post_init__(self) -> None:
        if self.core_share <= 0 or not 0 <= self.headroom < 1:
            raise ValueError("the share of a core is more than 0, the headroom from 0 to below 1")

    @property
    def usable(self) -> float:
        """Fraction of whatever is limited that the load may take."""
        return 1 - self.headroom

    @property
    def usable_cores(self) -> float:
        return self.core_share * self.usable


@dataclass(frozen=True, slots=True)
class Reason:
    """One bound on what a pod or a server carries, and how many of them it asks for."""

    name: str
    amount: float
    basis: Basis


@dataclass(frozen=True, slots=True)
class Need:
    """How many of something, before rounding. The reason that asks for the most decides."""

    reasons: tuple[Reason, ...]

    @property
    def exact(self) -> float:
        return self.decided_by.amount

    @property
    def count(self) -> int:
        """Return the whole number of them; one at least if any is needed at all."""
        return whole(self.exact)

    @property
    def decided_by(self) -> Reason:
        return max(self.reasons, key=lambda reason: reason.amount)


def whole(amount: float) -> int:
    """Round up; what only rounding of floats puts above a whole number does not count."""
    return math.ceil(amount * (1 - _NOISE))


@dataclass(frozen=True, slots=True)
class Plan:
    """What one load needs. Cores are busy ones, rates are per second."""

    load: Load
    chunks: float
    parts: float
    streams: float
    intake_cores: float
    intake: Need
    intake_memory_mib: float
    repository_cores: float
    parts_in_flight: float
    repository: Need
    processor_cores: float
    processor: Need
    gateway_cores: float | None
    gateway: Need | None
    redis_cores: float
    waiting_bytes: float
    record_bytes: float
    redis: Need
    budget_cores: float
    budget_bytes: float
    parts_per_queue: float
    events: float
    kafka_cores: float
    partitions: Need
    writes: float
    thumbnail_writes: float
    reads: float
    drives: Need
    thumbnail_prefixes: Need
    mysql_cores: float
    mysql_transactions: float
    catalogue_bytes: float
    seconds_to_store: float


def pieces(file_bytes: float, piece_bytes: int) -> int:
    """Return how many chunks or parts a file has. Parts that double after 1,000 are not counted."""
    return max(1, math.ceil(file_bytes / piece_bytes))


def put_seconds(size: float) -> float:
    """Return how long S3 takes for a request that carries `size` bytes."""
    return facts.PUT_LATENCY.value + size / facts.PUT_RATE.value


def writes_per_file(parts: int) -> int:
    """Return requests to S3: one PUT, or a multipart upload's opening, parts and completion."""
    return 1 if parts == 1 else parts + 2


def budget_calls(chunks: int, parts: int) -> float:
    """Return calls on the budget's slot for a file, in Redis Cluster.

    Each chunk: its admissions and a note when it is accepted. Each part: a note when it is stored.
    Each upload: whether there is room, and a note at its end.
    """
    return chunks * (facts.ADMISSIONS.value + 1) + parts + 2


def plan(load: Load, costs: Costs, shipped: Shipped, allowance: Allowance) -> Plan:
    """Return what the load needs (docs/scaling.md has the formulas)."""
    rate, files, photos = load.bytes_per_second, load.files_per_second, load.photos_per_second
    chunks = pieces(load.file_bytes, shipped.chunk_bytes)
    parts = pieces(load.file_bytes, shipped.part_bytes)
    part_bytes = min(load.file_bytes, shipped.part_bytes)

    cores = {name: cost.cores(rate, files) for name, cost in costs.services.items()}
    # HEAD and GET of the processor.
    reads = 2 * photos
    if load.integrity is Integrity.SHA256_ASYNC and parts > 1:
        cores["repository"] += facts.HASHING.value * rate / GIB
        reads += files
    processor_cores = photos * costs.photo_seconds
    kafka_cores = files * costs.kafka_seconds

    streams = rate / load.stream_bytes_per_second
    in_flight = files * parts * put_seconds(part_bytes)
    intake = Need(
        (
            _processor_time(cores["intake"], allowance),
            Reason("memory of the streams", streams / shipped.streams_per_intake, Basis.ASSUMED),
        )
    )
    repository = Need(
        (
            _processor_time(cores["repository"], allowance),
            Reason(
                "parts at once",
                in_flight / (shipped.parts_at_once * allowance.usable),
                Basis.ASSUMED,
            ),
        )
    )
    processor = Need((_processor_time(processor_cores, allowance),))

    # A byte waits for the rest of its part, on average half of it, and then for the store.
    waiting = rate * (part_bytes / load.stream_bytes_per_second / 2 + put_seconds(part_bytes))
    ended = files * shipped.forget_after_seconds
    records = ended * facts.UPLOAD_RECORD.value
    redis = Need(
        (
            Reason(
                "processor time",
                cores["redis"] / (facts.REDIS_CORES.value * allowance.usable),
                Basis.MEASURED,
            ),
            Reason(
                "memory",
                (waiting + records) / (facts.REDIS_BYTES.value * allowance.usable),
                Basis.ASSUMED,
            ),
        )
    )
    writes, thumbnail_writes = files * writes_per_file(parts), photos * shipped.thumbnails
    gateway_cores = None if costs.gateway_seconds is None else photos * costs.gateway_seconds
    return Plan(
        load=load,
        chunks=files * chunks,
        parts=files * parts,
        streams=streams,
        intake_cores=cores["intake"],
        intake=intake,
        intake_memory_mib=_intake_memory_mib(streams / intake.count, shipped),
        repository_cores=cores["repository"],
        parts_in_flight=in_flight,
        repository=repository,
        processor_cores=processor_cores,
        processor=processor,
        gateway_cores=gateway_cores,
        gateway=(
            None if gateway_cores is None else Need((_processor_time(gateway_cores, allowance),))
        ),
        redis_cores=cores["redis"],
        waiting_bytes=waiting,
        record_bytes=records,
        redis=redis,
        budget_cores=files * budget_calls(chunks, parts) * facts.BUDGET_CALL.value,
        budget_bytes=ended * facts.UPLOAD_LINE.value,
        parts_per_queue=files * parts / shipped.queues,
        # UploadInitiated and UploadCompleted, and NodeProcessed of a photo.
        events=2 * files + photos,
        kafka_cores=kafka_cores,
        # A partition has one processor at a time, and one broker that leads it.
        partitions=Need(
            (
                Reason("processors", processor.exact, Basis.MEASURED),
                Reason("processor time", kafka_cores / allowance.usable, Basis.MEASURED),
            )
        ),
        writes=writes,
        thumbnail_writes=thumbnail_writes,
        reads=reads,
        drives=Need(
            (_writes(writes), Reason("reads", reads / facts.PREFIX_GETS.value, Basis.VENDOR))
        ),
        thumbnail_prefixes=Need((_writes(thumbnail_writes),)),
        mysql_cores=cores["mysql"],
        # The intent and the commit of an upload, and the result of a photo.
        mysql_transactions=2 * files + photos,
        catalogue_bytes=load.objects * facts.CATALOGUE_ROWS.value,
        seconds_to_store=load.objects / files,
    )


def _processor_time(cores: float, allowance: Allowance) -> Reason:
    return Reason("processor time", cores / allowance.usable_cores, Basis.MEASURED)


def _writes(per_second: float) -> Reason:
    return Reason("writes", per_second / facts.PREFIX_PUTS.value, Basis.VENDOR)


def _intake_memory_mib(streams: float, shipped: Shipped) -> float:
    """Return the memory of an intake with so many sending streams (ADR 0016)."""
    stream = shipped.window_bytes / MIB + facts.STREAM_EXTRA.value
    return facts.INTAKE_BASE.value + streams * stream
