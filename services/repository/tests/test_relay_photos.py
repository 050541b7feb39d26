"""The relay publishes what the catalogue says about photos and upload jobs."""

from __future__ import annotations

import pytest

from sluice_backends.sql.catalogue import SqlCatalogue
from sluice_core.ports.event_publisher import PHOTOS_TOPIC
from support.photo_jobs import ANN, new_job
from support.roles import World


@pytest.mark.rule(22)
async def test_events_of_photos_and_jobs_are_published(world: World) -> None:
    """With the topic, the key and the order of the outbox."""
    catalogue = world.catalogue
    assert isinstance(catalogue, SqlCatalogue)
    made = await catalogue.create_job(new_job("a.jpg", "b.jpg"))
    await catalogue.cancel_job(ANN, made.job.job_id)
    waiting = [row.event for row in await catalogue.outbox(100)]
    while await world.relay.relay_once():
        pass
    assert world.publisher.events == waiting
    assert {event.topic for event in waiting} == {PHOTOS_TOPIC}
    assert world.publisher.types(made.job.job_id) == ["UploadJobCreated", "UploadJobCancelled"]
    for photo in made.photos:
        assert world.publisher.types(photo.node_id) == ["PhotoQueued", "PhotoCancelled"]
    assert not await catalogue.outbox(100)
