"""Settings of the processor."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from sluice_common.settings.groups import Bytes, Group
from sluice_core.addresses import Address
from sluice_core.configuration import ConfigurationError
from sluice_core.uploads.model import MIB


class Processor(Group):
    """Processing of photos, and its limits.

    Memory: `workers` x `child_memory_bytes` at most. Disk: `concurrency` x `max_source_bytes` at
    most, in `spool_dir`, for each source of work.
    """

    enabled: bool = True
    """Whether a standalone server with an event log processes photos; `sluice-processor` ignores
    it."""
    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "processor"
    """The consumer group; its dead letters are in `<topic>.<group>.dlq`."""
    s3_topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,140}$")] | None = None
    """Topic of store notifications, as sent by MinIO; unset: none."""
    concurrency: PositiveInt = 8
    """Concurrent nodes per source of work: one is read or written while another is decoded."""
    workers: PositiveInt = 2
    """Number of decoder children; set it to the number of cores."""
    thumbnail_sizes: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}(,[1-9][0-9]{0,4}){0,9}$")] = (
        "256,1024"
    )
    """Longest sides in pixels, separated by commas."""
    thumbnail_format: Literal["webp", "jpeg"] = "webp"
    thumbnail_quality: Annotated[int, Field(ge=1, le=100)] = 80
    max_source_bytes: Bytes = 512 * MIB
    max_pixels: PositiveInt = 200_000_000
    child_memory_bytes: Bytes = 1280 * MIB
    picture_seconds: Annotated[float, Field(gt=0, le=20)] = 10.0
    """Processor time of one picture; its wall time may be six times as long."""
    handling_seconds: Annotated[float, Field(gt=0, le=28)] = 25.0
    """Time of all attempts at one event, without the wait for a decoder and its work, so that a
    partition advances within 30 s unless a decoder makes progress."""
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    """Postponed retries of a node that ran out of time, before that is final."""
    retry_seconds: Annotated[float, Field(gt=0, le=43_200)] = 300.0
    """Delay before each postponed retry."""
    attempts: PositiveInt = 5
    """Attempts at one event before it becomes a dead letter."""
    scan_command: str | None = None
    """Command that scans each object for viruses, e.g. `clamdscan --fdpass -`; unset: none."""
    scan_address: str | None = None
    """Where clamd listens: HOST:PORT, or `unix:` and the path of its socket; unset: no scan."""
    scan_seconds: Annotated[float, Field(gt=0, le=28)] = 20.0
    """Time of the scan of one object."""
    spool_dir: Path | None = None
    """Directory of large pictures during processing; unset: the system's temporary directory."""

    @field_validator("scan_command")
    @classmethod
    def _is_command(cls, value: str | None) -> str | None:
        try:
            words = [] if value is None else shlex.split(value)
        except ValueError as error:
            raise ConfigurationError(f"is no command ({error})") from None
        if value is not None and not words:
            raise ConfigurationError("must name a program")
        return value

    @field_validator("scan_address")
    @classmethod
    def _is_socket(cls, value: str | None) -> str | None:
        if value is None or value.startswith("unix:/"):
            return value
        try:
            Address.parse(value)
        except ValueError as error:
            raise ConfigurationError(f"{error}, or unix: and the path of a socket") from None
        return value

    @model_validator(mode="after")
    def _has_one_scanner(self) -> Self:
        if self.scan_command is not None and self.scan_address is not None:
            raise ConfigurationError("SCAN_COMMAND and SCAN_ADDRESS exclude each other; set one")
        return self
