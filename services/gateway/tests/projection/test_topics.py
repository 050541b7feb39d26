"""Topics by the catalogue: who may hear them, and what they hold."""

from __future__ import annotations

from unittest.mock import AsyncMock

import pytest

from sluice_backends.sql.catalogue import SqlCatalogue
from sluice_core.access.principal import Principal
from sluice_core.access.scopes import Scope
from sluice_core.photos.states import PhotoStatus
from sluice_gateway.live.topics import JobTopic, UserTopic
from sluice_gateway.projection.topics import CatalogueTopics
from support.photo_jobs import ANN, BEN, RIVAL, change_photo, create_photo, new_job

READER = frozenset({Scope.PHOTOS_READ})


def principal(tenant: str, subject: str, scopes: frozenset[str] = READER) -> Principal:
    return Principal(tenant, subject, scopes)


@pytest.mark.parametrize(
    ("who", "may"),
    [
        (principal(ANN.tenant, ANN.user_id), True),
        (principal(ANN.tenant, ANN.user_id, frozenset({Scope.TENANT_ADMIN})), True),
        (principal(ANN.tenant, ANN.user_id, frozenset({Scope.PHOTOS_WRITE})), False),
        (principal(BEN.tenant, BEN.user_id), False),
        (principal(RIVAL.tenant, RIVAL.user_id), False),
    ],
)
async def test_job_is_heard_by_its_owner_with_the_scope(
    catalogue: SqlCatalogue, who: Principal, may: bool
) -> None:
    job = await catalogue.create_job(new_job())
    topics = CatalogueTopics(catalogue)
    assert await topics.may_hear(who, JobTopic(job.job.job_id)) is may
    assert not await topics.may_hear(who, JobTopic("job_unknown"))


async def test_user_without_the_scope_hears_nothing(catalogue: SqlCatalogue) -> None:
    topics = CatalogueTopics(catalogue)
    assert await topics.may_hear(principal("acme", "ann"), UserTopic())
    assert not await topics.may_hear(principal("acme", "ann", frozenset()), UserTopic())


async def test_snapshot_of_a_job_has_all_of_its_photos(catalogue: SqlCatalogue) -> None:
    job = await catalogue.create_job(new_job("a.jpg", "b.jpg", size=10))
    await change_photo(catalogue, job.photos[1], PhotoStatus.PROCESSING)
    topics, ann = CatalogueTopics(catalogue), principal(ANN.tenant, ANN.user_id)
    states = await topics.snapshot(ann, JobTopic(job.job.job_id))
    shown = [(state.key, state.status, state.bytes_sent, state.bytes_total) for state in states]
    assert shown == [
        (job.photos[0].photo_id, "QUEUED", 0, 10),
        (job.photos[1].photo_id, "PROCESSING", 10, 10),
        (job.job.job_id, "IN_PROGRESS", 10, 20),
    ]
    assert await topics.snapshot(ann, JobTopic("job_gone")) == []


async def test_snapshot_of_a_user_has_the_open_jobs(catalogue: SqlCatalogue) -> None:
    queued, ended = await create_photo(catalogue), await create_photo(catalogue)
    started = await create_photo(catalogue)
    await catalogue.create_job(new_job(owner=BEN))
    await change_photo(catalogue, started, PhotoStatus.UPLOADING)
    await change_photo(catalogue, ended, PhotoStatus.CANCELLED)
    ann = principal(ANN.tenant, ANN.user_id)
    # A hundred jobs may have a hundred thousand photos.
    catalogue.job_with_photos = AsyncMock()  # type: ignore[method-assign]
    states = await CatalogueTopics(catalogue).snapshot(ann, UserTopic())
    catalogue.job_with_photos.assert_not_awaited()
    assert {(state.job_id, state.status) for state in states} == {
        (queued.job_id, "QUEUED"),
        (started.job_id, "IN_PROGRESS"),
    }
