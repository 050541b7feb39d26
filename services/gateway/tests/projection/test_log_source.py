"""The projector on the event log: position, retries, events that cannot be applied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from sluice_backends.log.event_log import open_event_log
from sluice_backends.sql.catalogue import SqlCatalogue
from sluice_core.errors import InvalidArgument, SluiceError, Unavailable
from sluice_core.photos.states import PhotoStatus
from sluice_gateway.projection.log_source import LogSource
from sluice_gateway.projection.projector import Projector
from support.photo_jobs import create_photo
from support.projection import Stage, befall
from support.waiting import until


class Failing:
    """A projector whose calls fail as scripted; it counts them."""

    def __init__(self, projector: Projector, *errors: Exception) -> None:
        self._projector = projector
        self.errors = list(errors)
        self.applied: list[int] = []

    async def project_all(self, batch: Any, **named: Any) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        self.applied.append(len(batch))
        return await self._projector.project_all(batch, **named)


@asynccontextmanager
async def following(
    folder: Path, stage: Stage, projector: Failing, wake: asyncio.Event
) -> AsyncIterator[None]:
    """Follow the log in the block."""
    stop = asyncio.Event()
    scripted = cast("Projector", projector)
    source = LogSource(folder / "events", folder / "state", wake, scripted, stage.metrics)
    async with asyncio.TaskGroup() as group:
        group.create_task(source.run(stop))
        try:
            yield
        finally:
            stop.set()


async def publish(folder: Path, stage: Stage) -> None:
    """Write all events of the catalogue to the log."""
    async with open_event_log(folder / "events", fsync=False) as log:
        await log.publish([row.event for row in await stage.catalogue.outbox(100_000)])


async def ended(stage: Stage, photo: Any) -> bool:
    return (await stage.photo(photo)).status is PhotoStatus.COMPLETED


@pytest.mark.parametrize(
    "errors",
    [
        (),
        (Unavailable("CATALOGUE_UNAVAILABLE", "Try again."),) * 2,
        (RuntimeError("a defect of one moment"),),
    ],
)
async def test_log_is_applied_once_the_catalogue_answers(
    catalogue: SqlCatalogue, tmp_path: Path, errors: tuple[Exception, ...]
) -> None:
    stage, wake = Stage(catalogue), asyncio.Event()
    photo = await create_photo(catalogue)
    await befall(stage, photo, "processed")
    await publish(tmp_path, stage)
    async with following(tmp_path, stage, Failing(stage.projector(), *errors), wake):
        await until(lambda: ended(stage, photo))


async def test_position_is_kept_over_a_restart(catalogue: SqlCatalogue, tmp_path: Path) -> None:
    stage, wake = Stage(catalogue), asyncio.Event()
    photo = await create_photo(catalogue)
    await befall(stage, photo, "processed")
    await publish(tmp_path, stage)
    async with following(tmp_path, stage, Failing(stage.projector()), wake):
        await until(lambda: (tmp_path / "state" / "position.json").exists())

    late = await create_photo(catalogue)
    await befall(stage, late, "processed")
    # The outbox has the former events too; only those behind the position count.
    records = [row.event for row in await catalogue.outbox(100_000)]
    async with open_event_log(tmp_path / "events", fsync=False) as log:
        await log.publish([each for each in records if each.key == late.node_id])
    again = Failing(stage.projector())
    async with following(tmp_path, stage, again, wake):
        await until(lambda: ended(stage, late))
    assert sum(again.applied) == 2, "UploadCompleted and NodeProcessed of the late photo"


async def test_event_that_cannot_be_applied_is_skipped(
    catalogue: SqlCatalogue, tmp_path: Path
) -> None:
    """The others go on, and the sweeper looks at its photo."""
    stage, wake = Stage(catalogue), asyncio.Event()
    photos = [await create_photo(catalogue) for _ in range(3)]
    for photo in photos:
        await befall(stage, photo, "processed")
    await publish(tmp_path, stage)
    broken: SluiceError = InvalidArgument("BROKEN", "It cannot be applied; report it.")
    # The batch of all fails, and then the first photo on its own.
    projector = Failing(stage.projector(), broken, broken)
    async with following(tmp_path, stage, projector, wake):
        for photo in photos[1:]:
            await until(lambda photo=photo: ended(stage, photo))  # type: ignore[misc]
    skipped = stage.metrics.registry.get_sample_value(
        "sluice_gateway_events_skipped_total", {"reason": "BROKEN"}
    )
    assert skipped == 1
