"""Constants of the capacity model that no run has measured, each with its source. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from bench.units import GIB, MB


class Basis(StrEnum):
    """What a figure rests on."""

    MEASURED = "measured"
    SETTING = "setting"
    VENDOR = "vendor"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class Fact:
    """A constant.

    `source` is a file of the repository or an address. `quote`, where it is not empty, is the text
    of that file that has the figure: a test looks it up.
    """

    name: str
    value: float
    unit: str
    basis: Basis
    source: str
    quote: str = ""


HASHING: Final = Fact(
    "sha256_async instead of crc, for objects of several parts, in the repository",
    0.75,
    "CPU s per GiB",
    Basis.MEASURED,
    "docs/phases.md",
    "`sha256_async`, the repository takes 1.75 instead of 1.0 in phase 5",
)
"""The node is read back and hashed afterwards; an object of one part is hashed in passing."""

BUDGET_CALL: Final = Fact(
    "one call on the budget's slot of Redis Cluster, as `admit_chunk` takes on one server",
    61e-6,
    "CPU s",
    Basis.ASSUMED,
    "docs/adr/0009-redis-ledger.md",
    "| admit_chunk | 83 | 61 | 15 |",
)
ADMISSIONS: Final = Fact(
    "admissions of a chunk that a fast client sends",
    3,
    "calls",
    Basis.MEASURED,
    "docs/backpressure.md",
    "A client at full speed takes three steps for 8 MiB",
)

INTAKE_BASE: Final = Fact(
    "memory of an intake without load",
    130,
    "MiB",
    Basis.MEASURED,
    "docs/adr/0016-the-window-of-a-stream.md",
    "streams x (window + 3 MiB) + 130 MiB",
)
STREAM_EXTRA: Final = Fact(
    "memory of a sending stream beyond its window",
    3,
    "MiB",
    Basis.MEASURED,
    "docs/adr/0016-the-window-of-a-stream.md",
    "streams x (window + 3 MiB) + 130 MiB",
)

_S3: Final = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance.html"
PREFIX_PUTS: Final = Fact(
    "writes to one partitioned prefix of S3", 3500, "requests/s", Basis.VENDOR, _S3
)
PREFIX_GETS: Final = Fact(
    "reads from one partitioned prefix of S3", 5500, "requests/s", Basis.VENDOR, _S3
)
PUT_LATENCY: Final = Fact("latency of a request to S3", 0.2, "s", Basis.VENDOR, _S3)
"""The upper end of what AWS names for small objects."""
PUT_RATE: Final = Fact(
    "bytes of one request to S3",
    85 * MB,
    "B/s",
    Basis.VENDOR,
    "https://docs.aws.amazon.com/AmazonS3/latest/userguide/"
    "optimizing-performance-design-patterns.html",
)
"""AWS names it for reads; here it stands for writes as well."""

REDIS_CORES: Final = Fact(
    "processor of one Redis server, which runs commands in one thread",
    1,
    "core",
    Basis.VENDOR,
    "https://redis.io/docs/latest/operate/rs/databases/durability-ha/clustering/",
)
CLUSTER_NODES: Final = Fact(
    "servers of one Redis Cluster, replicas included",
    1000,
    "servers",
    Basis.VENDOR,
    "https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/",
)
REDIS_REPLICAS: Final = Fact("replicas of a shard", 1, "server", Basis.ASSUMED, "")
REDIS_BYTES: Final = Fact("memory of one Redis server", 16 * GIB, "B", Basis.ASSUMED, "")
UPLOAD_RECORD: Final = Fact(
    "memory of Redis for an ended upload, until it is forgotten", 4096, "B", Basis.ASSUMED, ""
)
UPLOAD_LINE: Final = Fact(
    "of that in the budget's slot, on one server", 128, "B", Basis.ASSUMED, ""
)
MYSQL_CORES: Final = Fact("processor of the MySQL primary", 16, "cores", Basis.ASSUMED, "")
CATALOGUE_ROWS: Final = Fact(
    "rows and indexes of one object in the catalogue", 2048, "B", Basis.ASSUMED, ""
)

FACTS: Final = (
    HASHING,
    BUDGET_CALL,
    ADMISSIONS,
    INTAKE_BASE,
    STREAM_EXTRA,
    PREFIX_PUTS,
    PREFIX_GETS,
    PUT_LATENCY,
    PUT_RATE,
    REDIS_CORES,
    CLUSTER_NODES,
    REDIS_REPLICAS,
    REDIS_BYTES,
    UPLOAD_RECORD,
    UPLOAD_LINE,
    MYSQL_CORES,
    CATALOGUE_ROWS,
)
