"""Settings of the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from sluice_common.settings.groups import Bytes, Group
from sluice_core.uploads.model import MIB


class Processor(Group):
    """Photos: what is made of them, and what one may cost.

    Memory: `workers` x `child_memory_bytes` at most. Disk: `concurrency` x `max_source_bytes` at
    most, in `spool_dir`, for each source of work.
    """

    enabled: bool = True
    """In a standalone with an event log; `sluice-processor` is there for nothing else."""
    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "processor"
    """The consumer group; its dead letters are in `<topic>.<group>.dlq`."""
    s3_topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,140}$")] | None = None
    """A topic in which a store tells of new objects, as MinIO does; unset: there is none."""
    concurrency: PositiveInt = 8
    """Nodes in hand at once, for each source of work: one is read or written while another is
    decoded."""
    workers: PositiveInt = 2
    """Children that decode at once; as many as cores."""
    thumbnail_sizes: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}(,[1-9][0-9]{0,4}){0,9}$")] = (
        "256,1024"
    )
    """Longest sides in pixels, with commas between."""
    thumbnail_format: Literal["webp", "jpeg"] = "webp"
    thumbnail_quality: Annotated[int, Field(ge=1, le=100)] = 80
    max_source_bytes: Bytes = 512 * MIB
    max_pixels: PositiveInt = 200_000_000
    child_memory_bytes: Bytes = 1280 * MIB
    picture_seconds: Annotated[float, Field(gt=0, le=20)] = 10.0
    """Processor time of one picture in its child; it may take six times as long by the clock."""
    handling_seconds: Annotated[float, Field(gt=0, le=28)] = 25.0
    """All tries at one event, without what a decoder waits for or works on it, so that a
    partition moves on within 30 s unless a decoder still gets on."""
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    """How often a node that ran out of time is tried again later, before that is final."""
    retry_seconds: Annotated[float, Field(gt=0, le=43_200)] = 300.0
    """How long it waits before each of them."""
    attempts: PositiveInt = 5
    """Tries at one event before it goes to the dead letters."""
    spool_dir: Path | None = None
    """Where pictures lie while they are looked at; the system's folder for such files if unset."""
