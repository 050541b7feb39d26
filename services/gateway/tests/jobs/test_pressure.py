"""Back-pressure: which measurement defers new jobs, and for how long it counts."""

from __future__ import annotations

import pytest

from sluice_core.errors import Unavailable
from sluice_core.ports.catalogue_load import OpenPhotos
from sluice_gateway.jobs.pressure import EXPIRY_SECONDS, Backlog, BackPressure, PressureLimits
from sluice_gateway.metrics import PressureMetrics

LIMITS = PressureLimits(
    photos=100, events=200, messages=300, database_seconds=1.5, retry_seconds=20.0
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Load:
    """A catalogue with this load."""

    def __init__(self) -> None:
        self.photos = OpenPhotos(0, 0)
        self.wait = 0.0
        self.is_down = False

    async def count_open_photos(self) -> OpenPhotos:
        if self.is_down:
            raise Unavailable("CATALOGUE_UNAVAILABLE", "…")
        return self.photos

    def connection_wait_seconds(self) -> float:
        return self.wait


class Scene:
    def __init__(self, limits: PressureLimits = LIMITS) -> None:
        self.clock, self.load, self.metrics = Clock(), Load(), PressureMetrics()
        self.pressure = BackPressure(limits, self.load, self.metrics, self.clock)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


async def test_jobs_are_welcome_before_anything_is_measured() -> None:
    assert await Scene().pressure.retry_after_seconds() is None


@pytest.mark.parametrize(
    ("backlog", "limit"), [(Backlog.KAFKA, 200), (Backlog.KAFKA_S3, 200), (Backlog.SQS, 300)]
)
async def test_backlog_above_its_limit_defers_jobs(backlog: Backlog, limit: int) -> None:
    scene = Scene()
    for value, delay in ((limit, None), (limit + 1, 20.0), (limit, None)):
        scene.pressure.report(backlog, value)
        assert await scene.pressure.retry_after_seconds() == delay
    assert scene.value("sluice_gateway_backlog", backlog=backlog.value) == limit
    assert scene.value("sqs_lag_gauge") == (limit if backlog is Backlog.SQS else 0)


async def test_waiting_photos_defer_jobs_and_arriving_ones_do_not() -> None:
    """A job that is under way must not keep others away before its photos have arrived."""
    scene = Scene()
    scene.load.photos = OpenPhotos(arriving=10_000, processing=100)
    await scene.pressure.measure()
    assert await scene.pressure.retry_after_seconds() is None
    assert scene.value("upload_inflight_gauge") == 10_100
    scene.load.photos = OpenPhotos(arriving=0, processing=101)
    await scene.pressure.measure()
    assert await scene.pressure.retry_after_seconds() == 20.0


async def test_wait_for_the_database_counts_at_once() -> None:
    scene = Scene()
    scene.load.wait = 1.6
    assert await scene.pressure.retry_after_seconds() == 20.0
    scene.load.wait = 1.5
    assert await scene.pressure.retry_after_seconds() is None


async def test_old_measurement_does_not_count() -> None:
    """A broker that does not answer says nothing about the lag; new jobs go on."""
    scene = Scene()
    scene.pressure.report(Backlog.KAFKA, 10_000)
    scene.clock.now += EXPIRY_SECONDS
    assert await scene.pressure.retry_after_seconds() == 20.0
    scene.clock.now += 1
    assert await scene.pressure.retry_after_seconds() is None


async def test_catalogue_that_is_down_does_not_end_the_measurement() -> None:
    scene = Scene()
    scene.load.is_down = True
    await scene.pressure.measure()
    assert await scene.pressure.retry_after_seconds() is None


async def test_limit_of_zero_is_none() -> None:
    scene = Scene(PressureLimits())
    for backlog in Backlog:
        scene.pressure.report(backlog, 1e9)
    scene.load.wait = 1e9
    assert await scene.pressure.retry_after_seconds() is None
