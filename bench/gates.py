"""The gates: a figure, its bound and its aim. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bench.figures import Spread


class Better(StrEnum):
    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Gate:
    """One row of the gates table (docs/performance.md), or one of several figures in a row.

    A gate whose `must` is None is only an aim: it cannot fail.
    """

    name: str
    what: str
    unit: str
    must: float | None
    aim: float
    better: Better

    def reaches(self, value: float, bound: float | None) -> bool:
        """Return whether the value is at the bound or beyond.

        Without a bound, any number is; NaN never is.
        """
        if value != value:
            return False
        if bound is None:
            return True
        return value >= bound if self.better is Better.HIGHER else value <= bound

    def bound_text(self, bound: float | None) -> str:
        if bound is None:
            return "–"
        sign = "≥" if self.better is Better.HIGHER else "≤"
        return f"{sign} {bound:g}{self.unit}"


@dataclass(frozen=True, slots=True)
class Result:
    """A measured gate; judged by the median of its rounds."""

    gate: Gate
    spread: Spread

    @property
    def passed(self) -> bool:
        return self.gate.reaches(self.spread.median, self.gate.must)

    @property
    def reaches_aim(self) -> bool:
        return self.gate.reaches(self.spread.median, self.gate.aim)

    @property
    def verdict(self) -> str:
        if not self.passed:
            return "FAIL"
        return "pass, aim reached" if self.reaches_aim else "pass"


def _ratio(name: str, what: str, must: float | None, aim: float, better: Better) -> Gate:
    return Gate(name, what, "", must, aim, better)


def _at_most(name: str, what: str, unit: str, must: float | None, aim: float) -> Gate:
    return Gate(name, what, unit, must, aim, Better.LOWER)


P1_STREAM: Final = _ratio(
    "P1-stream",
    "UploadStream, acknowledged per 16 MiB chunk ÷ raw TCP over loopback",
    0.40,
    0.65,
    Better.HIGHER,
)
P1_ACK_ONE: Final = _at_most(
    "P1-ack-1",
    "p95 from the last byte of a 16 MiB chunk to its acknowledgement, 1 stream",
    " ms",
    20,
    10,
)
P1_ACK_FOUR: Final = _at_most("P1-ack-4", "the same with 4 streams", " ms", 20, 10)
P1_UNARY: Final = _ratio(
    "P1-unary",
    "UploadChunk of 16 MiB, p95 of the round trip ÷ p95 of the same exchange over raw TCP",
    3.5,
    2.0,
    Better.LOWER,
)
P1_UNARY_TIME: Final = _at_most(
    "P1-unary-p95", "the same p95 as an absolute value", " ms", None, 20
)

P2_STREAM: Final = _ratio(
    "P2-stream",
    "client → intake → repository over gRPC, discarded there ÷ raw TCP over loopback",
    0.20,
    0.35,
    Better.HIGHER,
)
P2_ERRORS: Final = _at_most("P2-errors", "chunks that failed in phase 2", " %", 0.1, 0)

P3_REDIS: Final = _ratio(
    "P3-redis",
    "through Redis, workers dequeue and discard, until all of it is out ÷ phase 2, a share of a "
    "core for each process",
    0.90,
    1.1,
    Better.HIGHER,
)
P3_COST: Final = _ratio(
    "P3-cost",
    "processor seconds per GiB of all processes on shared cores ÷ those of phase 2",
    1.55,
    1.35,
    Better.LOWER,
)
P4_KAFKA: Final = _ratio(
    "P4-kafka",
    "phase 3 with events on Kafka ÷ phase 2, a share of a core for each process",
    0.85,
    1.1,
    Better.HIGHER,
)
P4_COST: Final = _ratio(
    "P4-cost",
    "processor seconds per GiB with events on Kafka, on shared cores ÷ those of phase 2",
    1.55,
    1.35,
    Better.LOWER,
)
P5_S3: Final = _ratio(
    "P5-s3",
    "end to end until the object is in S3 ÷ s3transfer straight to the same S3",
    0.60,
    0.90,
    Better.HIGHER,
)
P6_CATALOGUE: Final = _ratio(
    "P6-catalogue", "the same with the catalogue on ÷ phase 5", 0.95, 0.99, Better.HIGHER
)

SMALL_FILES: Final = _ratio(
    "small-files",
    "1,000 × 2 MiB, 100 in flight, until every node is COMPLETED ÷ s3transfer straight",
    0.50,
    0.90,
    Better.HIGHER,
)
PHOTOS_TIME: Final = _at_most(
    "photos", "100 photos of 2–6 MB, all at once, until every node is COMPLETED", " s", 90, 90
)
PHOTOS_ERRORS: Final = _at_most("photos-errors", "photos that failed", "", 0, 0)
PHOTOS_RATIO: Final = _ratio(
    "photos-ratio", "the time of the photos ÷ s3transfer straight", None, 1.1, Better.LOWER
)
THUMBNAILS_RATIO: Final = _ratio(
    "thumbnails",
    "12-megapixel JPEGs per second and core through the processor's children ÷ a bare Pillow loop",
    0.70,
    0.90,
    Better.HIGHER,
)
PROCESSED_SERVICES: Final = _at_most(
    "processed",
    "two 12-megapixel JPEGs a second: p95 from the event to the result, services on Kafka",
    " ms",
    500,
    300,
)
PROCESSED_STANDALONE: Final = _at_most(
    "processed-standalone", "the same in one process of one machine", " ms", 500, 300
)
CHUNKS_COST: Final = _ratio(
    "chunks-cost",
    "cost of a chunk at 100,000 chunks in one upload ÷ at 1,000",
    1.2,
    1.05,
    Better.LOWER,
)
OPEN_ACK: Final = _at_most(
    "open-ack",
    "1,000 uploads open, 50 of them streaming at 40 Mbit/s each: p99 of the acknowledgement",
    " ms",
    250,
    100,
)
INTAKE_MEMORY: Final = _at_most(
    "intake-memory", "largest resident memory of an intake under full load", " MiB", 512, 256
)

NEIGHBOURS: Final = _ratio(
    "neighbours",
    "p99 of the acknowledgement beside a tenant that sends ten times as much through one full "
    "budget ÷ alone",
    2.0,
    1.2,
    Better.LOWER,
)
AUTH_STREAM: Final = _ratio(
    "auth-stream",
    "UploadStream in phase 1 with a JWT on every call ÷ without authentication",
    0.97,
    0.99,
    Better.HIGHER,
)
AUTH_UNARY: Final = _ratio(
    "auth-unary", "the same with UploadChunk of 16 MiB", 0.97, 0.99, Better.HIGHER
)
AUTH_SMALL: Final = _ratio(
    "auth-small",
    "files of 2 MiB as in SMALL with a JWT ÷ without authentication",
    0.97,
    0.99,
    Better.HIGHER,
)

GATEWAY_CREATE: Final = _at_most(
    "gateway-create",
    "upload job of 100 files over HTTP: p95 until its URLs are there",
    " ms",
    500,
    100,
)
GATEWAY_PROGRESS: Final = _at_most(
    "gateway-progress", "post of progress: p95 of the answer", " ms", 200, 20
)
GATEWAY_PHOTOS: Final = _at_most(
    "gateway-photos",
    "100 photos of 2–6 MB by signed URLs until the job is COMPLETED",
    " s",
    90,
    30,
)
GATEWAY_PHOTOS_ERRORS: Final = _at_most(
    "gateway-photos-errors", "photos not COMPLETED with thumbnails and EXIF", "", 0, 0
)
GATEWAY_CPU: Final = _at_most(
    "gateway-cpu", "of a core for all replicas of the gateway meanwhile", " %", 70, 35
)
GATEWAY_DATABASE_CPU: Final = _at_most(
    "gateway-database-cpu", "of a core for the database meanwhile", " %", 60, 30
)
GATEWAY_QUERY: Final = _at_most(
    "gateway-query",
    "two replicas behind a balancer: p99 from a photo's change of state until the query shows it",
    " ms",
    1000,
    200,
)
GATEWAY_SSE: Final = _at_most("gateway-sse", "the same by server-sent events", " ms", 1000, 200)
GATEWAY_STOMP: Final = _at_most("gateway-stomp", "the same by STOMP", " ms", 1000, 200)
GATEWAY_USERS: Final = _at_most(
    "gateway-users",
    "100 users, each with a job of 10 files a second and a query of it: p95 of a request",
    " ms",
    500,
    100,
)
GATEWAY_USERS_ERRORS: Final = _at_most(
    "gateway-users-errors", "requests of these that failed", " %", 1, 0
)
GATEWAY_USERS_CHECKS: Final = Gate(
    "gateway-users-checks", "checks of their answers that passed", " %", 99, 100, Better.HIGHER
)

SUSTAINED_ERRORS_1: Final = _at_most(
    "sustained-errors-1", "chunks that failed in the sustained run, phase 1", " %", 0.1, 0
)
SUSTAINED_GROWTH_1: Final = _at_most(
    "sustained-growth-1",
    "growth of resident memory after the first minute of it, the worst process",
    " %",
    5,
    0,
)
SUSTAINED_ERRORS_6: Final = _at_most(
    "sustained-errors-6", "chunks that failed in the sustained run, phase 6", " %", 0.1, 0
)
SUSTAINED_GROWTH_6: Final = _at_most(
    "sustained-growth-6",
    "growth of resident memory after the first minute of it, the worst process",
    " %",
    5,
    0,
)

SUSTAINED_CANCELLED: Final = _at_most(
    "sustained-cancelled",
    "resident memory that a cancelled call leaves in the worst process of a storm of them, upper "
    "95 % bound",
    " bytes",
    40,
    8,
)

GATES: Final[Mapping[str, Sequence[Gate]]] = {
    "P1": (P1_STREAM, P1_ACK_ONE, P1_ACK_FOUR, P1_UNARY, P1_UNARY_TIME),
    "P2": (P2_STREAM, P2_ERRORS),
    "P3": (P3_REDIS, P3_COST),
    "P4": (P4_KAFKA, P4_COST),
    "P5": (P5_S3,),
    "P6": (P6_CATALOGUE,),
    "SMALL": (SMALL_FILES,),
    "PHOTOS": (PHOTOS_TIME, PHOTOS_ERRORS, PHOTOS_RATIO),
    "THUMBNAILS": (THUMBNAILS_RATIO,),
    "PROCESSED": (PROCESSED_SERVICES, PROCESSED_STANDALONE),
    "CHUNKS": (CHUNKS_COST,),
    "OPEN": (OPEN_ACK,),
    "NEIGHBOURS": (NEIGHBOURS,),
    "AUTH": (AUTH_STREAM, AUTH_UNARY, AUTH_SMALL),
    "GATEWAY": (
        GATEWAY_CREATE,
        GATEWAY_PROGRESS,
        GATEWAY_PHOTOS,
        GATEWAY_PHOTOS_ERRORS,
        GATEWAY_CPU,
        GATEWAY_DATABASE_CPU,
        GATEWAY_QUERY,
        GATEWAY_SSE,
        GATEWAY_STOMP,
        GATEWAY_USERS,
        GATEWAY_USERS_ERRORS,
        GATEWAY_USERS_CHECKS,
    ),
    "SUSTAINED": (
        SUSTAINED_ERRORS_1,
        SUSTAINED_GROWTH_1,
        SUSTAINED_ERRORS_6,
        SUSTAINED_GROWTH_6,
        SUSTAINED_CANCELLED,
    ),
    "MATRIX": (INTAKE_MEMORY,),
}
"""Gates of each scenario; a scenario that omits one fails."""
