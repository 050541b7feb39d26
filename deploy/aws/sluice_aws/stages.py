"""The stages, and in what they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PROBE_PREFIX: Final = "sluice-probe"
"""Where a process tries what the store can (`S3Options.probe_prefix`)."""
NAMESPACE: Final = "sluice"
"""Of the service accounts."""
UPLOAD_DAYS: Final = 7
"""Longest life of an upload (docs/protocol.md, rule 24)."""
ABORT_DAYS: Final = UPLOAD_DAYS + 1
"""When S3 aborts a multipart: after Sluice's own sweeper, never before."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One deployment.

    Args:
        name: also the prefix of all keys (`SLUICE_GATEWAY__ENVIRONMENT`).
        origins: of the pages, which put photos straight into the bucket.
        infrequent_days: after which objects become cheaper to keep and dearer to read; 0: never.
    """

    name: str
    origins: tuple[str, ...]
    vpc_cidr: str
    nat_gateways: int
    database_class: str
    database_gib: int
    multi_az: bool
    backup_days: int
    cache_class: str
    cache_replicas: int
    node_class: str
    node_count: int
    infrequent_days: int
    is_protected: bool

    @property
    def key_prefix(self) -> str:
        return f"{self.name}/"


STAGES: Final = (
    Stage(
        name="staging",
        origins=("https://staging.photos.example.com",),
        vpc_cidr="10.20.0.0/16",
        nat_gateways=1,
        database_class="db.t4g.medium",
        database_gib=50,
        multi_az=False,
        backup_days=3,
        cache_class="cache.t4g.medium",
        cache_replicas=1,
        node_class="m7i.large",
        node_count=3,
        infrequent_days=0,
        is_protected=False,
    ),
    Stage(
        name="production",
        origins=("https://photos.example.com",),
        vpc_cidr="10.30.0.0/16",
        nat_gateways=3,
        database_class="db.r7g.large",
        database_gib=200,
        multi_az=True,
        backup_days=14,
        cache_class="cache.r7g.large",
        cache_replicas=2,
        node_class="m7i.xlarge",
        node_count=6,
        infrequent_days=30,
        is_protected=True,
    ),
)
