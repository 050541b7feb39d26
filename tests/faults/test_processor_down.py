"""A processor that works off the backlog of its downtime."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

import pytest

from bench.load.photos import photo
from sluice_core.catalogue.processing import ProcessingState
from sluice_core.ports.catalogue import NodeCommit
from sluice_core.ports.event_publisher import UPLOADS_TOPIC
from support import kafka
from support.photo_stage import Stage, photo_stage, running
from support.pictures import exif
from support.waiting import metric, until

AT_ONCE: Final = 16
PER_MINUTE: Final = 300
"""Photos that busy users upload: five a second."""
OTHERS: Final = 5
"""Events that other tests may write to the topic at the same time."""


@pytest.mark.row(10)
@pytest.mark.parametrize(
    ("minutes", "seconds"),
    [
        pytest.param(1, 60, id="a minute"),
        pytest.param(
            10, 300, id="ten minutes", marks=[pytest.mark.slow_fault, pytest.mark.timeout(600)]
        ),
    ],
)
async def test_restarted_processor_works_off_its_backlog(
    tmp_path: Path, minutes: int, seconds: float
) -> None:
    """The group's lag at the broker shows the backlog to an autoscaler while the processor is down.
    Afterwards the processor's lag metric agrees with it and falls to zero."""
    pictures = [photo(200, 150, seed, exif=exif()) for seed in range(16)]
    async with photo_stage(tmp_path, SLUICE_PROCESSOR__WORKERS="2") as stage:
        async with running(stage.processor()) as process:
            (first,) = await stage.processed(await stage.upload("first.jpg", pictures[0]))
            assert first.state is ProcessingState.PROCESSED
            assert await asyncio.to_thread(process.stop) == 0
        missed = await upload_meanwhile(stage, pictures, minutes * PER_MINUTE)
        assert await kafka.lag_of(stage.kafka, stage.group, UPLOADS_TOPIC) >= len(missed)

        async with running(process):
            begun = time.monotonic()
            results = await stage.processed(*missed, seconds=seconds)
            took = time.monotonic() - begun
            assert {one.state for one in results} == {ProcessingState.PROCESSED}

            async def caught_up() -> bool:
                address = process.metrics_address
                reported = await metric(address, "sluice_processor_lag", source="kafka")
                at_broker = await kafka.lag_of(stage.kafka, stage.group, UPLOADS_TOPIC)
                return reported <= OTHERS and at_broker <= OTHERS

            await until(caught_up, 30, "both lags are down to zero")
            repeated = {"outcome": "repeated"}
            counted = "sluice_processor_nodes_total"
            assert await metric(process.metrics_address, counted, **repeated) == 0
        published = await stage.relay()
        assert published.count("NodeProcessed") == len(missed)
    print(f"{len(missed)} photos in {took:.1f} s: {len(missed) / took:.0f} a second")  # noqa: T201


async def upload_meanwhile(stage: Stage, pictures: list[bytes], count: int) -> list[NodeCommit]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> NodeCommit:
        async with gate:
            return await stage.complete(f"{number}.jpg", pictures[number % len(pictures)])

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(count)]
    await stage.relay()
    return [task.result() for task in tasks]
