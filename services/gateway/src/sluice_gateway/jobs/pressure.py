"""Back-pressure: whether so much work waits behind the gateway that new jobs have to wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog

from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import SluiceError
from sluice_core.ports.catalogue_load import CatalogueLoad
from sluice_gateway.metrics import PressureMetrics

MEASURE_SECONDS: Final = 10.0
EXPIRY_SECONDS: Final = 60.0
"""Age at which a measurement counts no more: its source does not answer, which says nothing about
the work that waits there."""

_log = structlog.get_logger(__name__)


class Backlog(StrEnum):
    """Where work waits, as named in metrics and logs."""

    PHOTOS = "photos"
    """Photos in PROCESSING, by the catalogue; known in every deployment."""
    KAFKA = "kafka"
    """Events that the processors have not handled: the lag of their consumer group."""
    KAFKA_S3 = "kafka-s3"
    """The same of the topic of store notifications."""
    SQS = "sqs"
    """Messages in the queue of store notifications."""
    DATABASE = "database"
    """Seconds for which a call waited for a connection of the database."""


@dataclass(frozen=True, slots=True)
class PressureLimits:
    """What may wait before new jobs are refused; 0 means no limit.

    retry_seconds: `Retry-After` of a refusal.
    """

    photos: int = 0
    events: int = 0
    messages: int = 0
    database_seconds: float = 0.0
    retry_seconds: float = 30.0

    def of(self, backlog: Backlog) -> float:
        """Return the limit of a backlog."""
        match backlog:
            case Backlog.PHOTOS:
                return self.photos
            case Backlog.KAFKA | Backlog.KAFKA_S3:
                return self.events
            case Backlog.SQS:
                return self.messages
            case Backlog.DATABASE:
                return self.database_seconds


class BackPressure:
    """`Pressure` by the newest measurement of each backlog.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        limits: PressureLimits,
        catalogue: CatalogueLoad,
        metrics: PressureMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._catalogue = catalogue
        self._metrics = metrics
        self._clock = clock
        self._measured: dict[Backlog, tuple[float, float]] = {}
        self._is_high = False

    def report(self, backlog: Backlog, value: float) -> None:
        """Take a measurement."""
        self._measured[backlog] = (value, self._clock())
        self._metrics.backlog.labels(backlog.value).set(value)
        if backlog is Backlog.SQS:
            self._metrics.sqs_lag.set(value)

    async def retry_after_seconds(self) -> float | None:
        # Read now: a measurement of every ten seconds would miss a short jam.
        self.report(Backlog.DATABASE, self._catalogue.connection_wait_seconds())
        above = [backlog for backlog in self._measured if self._is_above(backlog)]
        if bool(above) is not self._is_high:
            self._is_high = bool(above)
            _log.warning(
                "jobs.deferred" if above else "jobs.admitted",
                backlogs={backlog.value: self._measured[backlog][0] for backlog in above},
            )
        return self._limits.retry_seconds if above else None

    async def run(self, stop: asyncio.Event) -> None:
        """Measure the catalogue until `stop`; the other backlogs are reported."""
        while True:
            await self.measure()
            if await wait_at_most(stop, MEASURE_SECONDS):
                return

    async def measure(self) -> None:
        """Measure the catalogue once."""
        self.report(Backlog.DATABASE, self._catalogue.connection_wait_seconds())
        try:
            found = await self._catalogue.count_open_photos()
        except SluiceError as error:
            _log.warning("backlog.measurement_failed", backlog="photos", error=str(error))
            return
        self.report(Backlog.PHOTOS, found.processing)
        self._metrics.in_flight.set(found.arriving + found.processing)

    def _is_above(self, backlog: Backlog) -> bool:
        value, measured_at = self._measured[backlog]
        limit = self._limits.of(backlog)
        return 0 < limit < value and self._clock() - measured_at <= EXPIRY_SECONDS
