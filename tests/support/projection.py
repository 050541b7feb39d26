"""A projector on a catalogue, and what happens to photos before it hears of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sluice_backends.memory.live import MemoryLiveUpdates
from sluice_core.catalogue.processing import Processing
from sluice_core.events.registry import parse_record
from sluice_core.live.updates import Update
from sluice_core.photos.model import Photo
from sluice_core.photos.states import PhotoStatus
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.live_updates import LiveUpdates
from sluice_gateway.jobs.announcements import Announcer
from sluice_gateway.jobs.updates import audience_of
from sluice_gateway.metrics import ProjectionMetrics
from sluice_gateway.projection.log_source import TOPICS
from sluice_gateway.projection.news import NodeNews, news_of
from sluice_gateway.projection.projector import Projector
from support.photo_jobs import ANN, change_photo, commit_object
from support.processing_results import failed, processed


class Killed(BaseException):
    """The process dies here. No handler of errors may catch it."""


class Mortal:
    """A port whose calls kill the process now and then, before or after their effect."""

    def __init__(self, port: Any, dies: Callable[[], bool]) -> None:
        self._port = port
        self._dies = dies

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            if self._dies():
                raise Killed(f"before {name}")
            answer = await method(*arguments, **named)
            if self._dies():
                raise Killed(f"after {name}")
            return answer

        return call


@dataclass
class Stage:
    """A catalogue, a log of updates, and a projector on both."""

    catalogue: GatewayCatalogue
    live: MemoryLiveUpdates = field(default_factory=MemoryLiveUpdates)
    metrics: ProjectionMetrics = field(default_factory=ProjectionMetrics)

    def projector(self, dies: Callable[[], bool] | None = None) -> Projector:
        """Return a projector as after a start of the process."""
        catalogue, live = self.catalogue, cast("LiveUpdates", self.live)
        if dies is not None:
            catalogue = cast("GatewayCatalogue", Mortal(catalogue, dies))
            live = cast("LiveUpdates", Mortal(live, dies))
        return Projector(catalogue, Announcer(catalogue, live), self.metrics)

    async def news(self) -> list[NodeNews]:
        """Return the news in all events so far, in their order."""
        records = [row.event for row in await self.catalogue.outbox(100_000)]
        found = [news_of(each, parse_record(each)) for each in records if each.topic in TOPICS]
        return [news for news in found if news is not None]

    async def project(self, news: Sequence[NodeNews] | None = None) -> None:
        """Apply news one by one, by default all so far."""
        projector = self.projector()
        for each in await self.news() if news is None else news:
            await projector.project_all([each])

    async def photo(self, photo: Photo) -> Photo:
        return (await self.catalogue.photos_of_nodes([photo.node_id]))[photo.node_id]

    async def is_live(self, photo: Photo) -> bool:
        return bool(await self.catalogue.candidates([photo.node_id]))

    async def record(self, photo: Photo, processing: Processing) -> None:
        await self.catalogue.record_processed(photo.owner.tenant, photo.node_id, processing)

    async def heard(self, key: str) -> Update | None:
        """Return what Ann's listeners know of a photo or a job."""
        (update,) = await self.live.latest(audience_of(ANN), [key])
        return update


FATES = ("processed", "failed", "deleted", "lost", "cancelled", "cancelled late", "stored", "none")


async def befall(stage: Stage, photo: Photo, fate: str) -> None:
    """Let a fate befall a photo in the catalogue; the projector has not heard of it."""
    tenant, node_id = photo.owner.tenant, photo.node_id
    if fate == "cancelled":
        await change_photo(stage.catalogue, photo, PhotoStatus.CANCELLED)
    if fate != "none":
        await commit_object(stage.catalogue, photo)
    if fate in ("processed", "lost"):
        await stage.record(photo, processed(node_id))
    if fate == "failed":
        await stage.record(photo, failed())
    if fate in ("deleted", "lost"):
        await stage.catalogue.delete_node(tenant, node_id)
    if fate == "cancelled late":
        await change_photo(stage.catalogue, photo, PhotoStatus.CANCELLED)


STATUS_AFTER = {
    "processed": PhotoStatus.COMPLETED,
    "failed": PhotoStatus.FAILED,
    "deleted": PhotoStatus.FAILED,
    "lost": PhotoStatus.FAILED,
    "cancelled": PhotoStatus.CANCELLED,
    "cancelled late": PhotoStatus.CANCELLED,
    "stored": PhotoStatus.PROCESSING,
    "none": PhotoStatus.QUEUED,
}


def any_order(news: Sequence[NodeNews], rng: random.Random) -> list[NodeNews]:
    """Return the news in a random order, some of them several times."""
    repeated = [*news, *rng.choices(news, k=len(news) // 2)]
    rng.shuffle(repeated)
    return repeated
