"""The projector: any order, repeats, kills between its steps, late news."""

from __future__ import annotations

import random
from dataclasses import replace
from unittest.mock import AsyncMock

import pytest

from sluice_backends.sql.catalogue import SqlCatalogue
from sluice_core.errors import Unavailable
from sluice_core.photos.counts import PhotoCounts
from sluice_core.photos.states import NOT_ARRIVED, PhotoStatus, Reopening
from sluice_gateway.jobs.announcements import Announcer
from sluice_gateway.projection.projector import Projector
from support.commits import finished_upload
from support.photo_jobs import ANN, change_photo, commit_object, create_photo, new_job
from support.processing_results import failed, processed
from support.projection import FATES, STATUS_AFTER, Killed, Stage, any_order, befall

PHOTOS = 16


@pytest.fixture
def stage(catalogue: SqlCatalogue) -> Stage:
    return Stage(catalogue)


@pytest.mark.parametrize("kills", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(4))
async def test_any_order_of_news_leads_to_the_same_state(
    stage: Stage, seed: int, kills: float
) -> None:
    """News in any order and number; each process dies between two steps at random."""
    rng = random.Random(seed)
    names = [f"{number}.jpg" for number in range(PHOTOS)]
    photos = (await stage.catalogue.create_job(new_job(*names))).photos
    fates = [*FATES, *rng.choices(FATES, k=PHOTOS - len(FATES))]
    for photo, fate in zip(photos, fates, strict=True):
        await befall(stage, photo, fate)

    todo = any_order(await stage.news(), rng)
    projector = stage.projector(lambda: rng.random() < kills)
    deaths = 0
    while todo:
        batch = {news.node_id: news for news in todo[: rng.randint(1, 5)]}
        try:
            await projector.project_all(list(batch.values()))
        except Killed:
            # A new process hears the news again, perhaps after others.
            projector = stage.projector(lambda: rng.random() < kills)
            deaths += 1
            rng.shuffle(todo)
            continue
        for news in batch.values():
            todo.remove(news)

    assert (deaths > 0) == (kills > 0)
    for photo, fate in zip(photos, fates, strict=True):
        now = await stage.photo(photo)
        assert now.status is STATUS_AFTER[fate], fate
        wanted = fate in ("processed", "failed", "stored")
        assert await stage.is_live(photo) == wanted, fate
        heard = await stage.heard(photo.photo_id)
        if fate not in ("none", "cancelled late"):
            assert heard is not None, fate
            assert (heard.status, heard.version) == (now.status.value, now.version), fate
    job = await stage.catalogue.get_job(ANN, photos[0].job_id)
    assert job.counts == PhotoCounts.of(STATUS_AFTER[fate] for fate in fates)
    told = await stage.heard(job.job_id)
    assert told is not None
    assert (told.status, told.version) == (job.status.value, job.version)


async def test_completed_photo_knows_when_it_was_taken(stage: Stage) -> None:
    photo = await create_photo(stage.catalogue)
    await commit_object(stage.catalogue, photo)
    exif = {"taken_at": "2024-05-06T07:08:09.123-03:30"}
    await stage.record(photo, replace(processed(photo.node_id), exif=exif))
    await stage.project()
    assert (await stage.photo(photo)).taken_at == pytest.approx(1_714_991_889.123)


async def test_object_deleted_elsewhere_deletes_its_photo(stage: Stage) -> None:
    """By the gRPC API, or by another upload to its path."""
    photo = await create_photo(stage.catalogue)
    await befall(stage, photo, "processed")
    await stage.project()
    await stage.catalogue.delete_node(photo.owner.tenant, photo.node_id)
    await stage.project()
    gone = await stage.photo(photo)
    assert (gone.status, gone.deleted_at is None) == (PhotoStatus.COMPLETED, False)


async def test_failure_of_a_former_attempt_is_no_news(stage: Stage) -> None:
    """Processing again leaves the old result in the catalogue until there is a new one."""
    photo = await create_photo(stage.catalogue)
    await befall(stage, photo, "failed")
    await stage.project()
    await stage.catalogue.reopen_photo(ANN, photo.photo_id, Reopening.REPROCESS)
    await stage.project()
    assert (await stage.photo(photo)).status is PhotoStatus.PROCESSING
    await stage.record(photo, processed(photo.node_id))
    await stage.project()
    assert (await stage.photo(photo)).status is PhotoStatus.COMPLETED


async def test_failure_of_a_second_attempt_counts_at_once(stage: Stage) -> None:
    """Whatever changed about the photo after its object had failed: tags, a step before."""
    photo = await create_photo(stage.catalogue)
    await change_photo(stage.catalogue, photo, PhotoStatus.FAILED, reason="GONE")
    await stage.catalogue.reopen_photo(ANN, photo.photo_id, Reopening.RETRY)
    await commit_object(stage.catalogue, photo)
    await stage.record(photo, failed())
    await change_photo(stage.catalogue, photo, PhotoStatus.PROCESSING)
    await stage.catalogue.add_tags(ANN, photo.photo_id, ["a"])
    await stage.project()
    now = await stage.photo(photo)
    assert (now.status, now.reason, now.attempt) == (PhotoStatus.FAILED, failed().reason, 2)


@pytest.mark.parametrize("seed", range(3))
async def test_any_order_of_news_suits_later_attempts(stage: Stage, seed: int) -> None:
    """Photos that failed, and were sent again or arrived after all; with news of both attempts."""
    rng = random.Random(seed)
    names = [f"{number}.jpg" for number in range(len(FATES) * 2)]
    photos = (await stage.catalogue.create_job(new_job(*names))).photos
    fates = list(zip(photos, [*FATES, *FATES], strict=True))
    for number, (photo, fate) in enumerate(fates):
        reason = NOT_ARRIVED if number % 2 or fate == "none" else "GONE"
        await change_photo(stage.catalogue, photo, PhotoStatus.FAILED, reason=reason)
        if reason == "GONE" or fate.startswith("cancelled"):
            await stage.catalogue.reopen_photo(ANN, photo.photo_id, Reopening.RETRY)
        await befall(stage, photo, fate)
    projector = stage.projector()
    for news in any_order(await stage.news(), rng):
        await projector.project_all([news])
    for photo, fate in fates:
        now = await stage.photo(photo)
        expected = STATUS_AFTER[fate]
        if fate in ("deleted", "lost", "none"):
            expected = PhotoStatus.FAILED
        assert now.status is expected, fate
        assert await stage.is_live(photo) == (fate in ("processed", "failed", "stored")), fate


async def test_failed_photo_names_the_reason_of_the_processor(stage: Stage) -> None:
    photo = await create_photo(stage.catalogue)
    await befall(stage, photo, "failed")
    await stage.project()
    now = await stage.photo(photo)
    assert (now.reason, now.detail) == (failed().reason, failed().detail)
    assert (
        stage.metrics.registry.get_sample_value("photo_failed_total", {"reason": failed().reason})
        == 1
    )


async def test_updates_that_nobody_takes_stop_nothing(stage: Stage) -> None:
    """Redis is down: the commit stands, and those who poll see it."""

    class Down:
        async def publish(self, *_: object) -> None:
            raise Unavailable("REDIS_UNAVAILABLE", "Try again.")

    photo = await create_photo(stage.catalogue)
    await befall(stage, photo, "processed")
    announcer = Announcer(stage.catalogue, Down())  # type: ignore[arg-type] # one method is used
    projector = Projector(stage.catalogue, announcer, stage.metrics)
    for news in await stage.news():
        await projector.project(news)
    assert (await stage.photo(photo)).status is PhotoStatus.COMPLETED


async def test_change_of_a_photo_reads_no_other(stage: Stage) -> None:
    """Of a job of a thousand, each change would read all."""
    made = await stage.catalogue.create_job(new_job("a.jpg", "b.jpg", size=10))
    photo, other = made.photos
    await befall(stage, photo, "processed")
    stage.catalogue.job_with_photos = AsyncMock()  # type: ignore[method-assign]
    await stage.project()
    stage.catalogue.job_with_photos.assert_not_awaited()
    assert await stage.heard(other.photo_id) is None
    job = await stage.heard(made.job.job_id)
    assert job is not None
    assert (job.status, job.bytes_sent, job.bytes_total) == ("IN_PROGRESS", 10, 20)


async def test_node_without_a_photo_is_left_alone(stage: Stage) -> None:
    commit = finished_upload("a.txt")
    await stage.catalogue.commit_node(commit)
    await stage.project()
    assert await stage.catalogue.candidates([commit.node_id])


async def test_cancelled_photo_is_cancelled_for_good(stage: Stage) -> None:
    photo = await create_photo(stage.catalogue)
    await change_photo(stage.catalogue, photo, PhotoStatus.CANCELLED)
    await commit_object(stage.catalogue, photo)
    await stage.project()
    assert not await stage.is_live(photo)
    assert (await stage.photo(photo)).status is PhotoStatus.CANCELLED
