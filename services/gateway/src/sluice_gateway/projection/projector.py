"""The projector: from news of nodes to photos and jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress

import structlog

from sluice_core.catalogue.processing import Processing
from sluice_core.concurrency.batching import CallBatcher
from sluice_core.errors import FailedPrecondition, NotFound
from sluice_core.photos.changes import Outcome, PhotoChange
from sluice_core.photos.model import Photo
from sluice_core.photos.states import PhotoStatus, Reopening
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.photos import ChangedPhoto
from sluice_gateway.jobs.announcements import Announcer
from sluice_gateway.jobs.ends import count_ends
from sluice_gateway.metrics import ProjectionMetrics
from sluice_gateway.projection.decisions import (
    NodeState,
    change_of,
    has_arrived_late,
    has_lost_node,
    must_delete_node,
)
from sluice_gateway.projection.news import NewsKind, NodeNews

_log = structlog.get_logger(__name__)


class Projector:
    """Applies news of nodes, in any order and any number of times.

    1. Read the photos and nodes that the news is about.
    2. Reopen photos that failed because their objects had not arrived, and arrived afterwards.
    3. Change the photos, in one transaction with their job and their events.
    4. Delete the nodes of photos that their owner cancelled or deleted in the meantime.
    5. Announce the photos to those who listen.

    It may die after each step; the repeated news then does the rest. News that arrive while others
    are in progress are applied together.
    """

    def __init__(
        self, catalogue: GatewayCatalogue, announcer: Announcer, metrics: ProjectionMetrics
    ) -> None:
        self._catalogue = catalogue
        self._announcer = announcer
        self._metrics = metrics
        self._batches: CallBatcher[NodeNews, None] = CallBatcher(
            self._project_batch, lambda news: news.node_id
        )

    async def project(self, news: NodeNews) -> None:
        """Apply one piece of news. Raise `SluiceError`."""
        await self._batches.call(news)

    async def project_all(
        self, batch: Sequence[NodeNews], *, trust_former: bool = False
    ) -> Sequence[ChangedPhoto]:
        """Apply news at once; return what became of the photos that were to change.

        Args:
            batch: no node twice.
            trust_former: see `change_of`.

        Raise `SluiceError`.
        """
        photos = await self._catalogue.photos_of_nodes([news.node_id for news in batch])
        if not photos:
            return ()
        nodes = await self._node_states(photos)
        reopened = await self._reopen_late(photos, nodes)
        former = photos
        photos = {**photos, **{each.photo.node_id: each.photo for each in reopened if each.photo}}
        changes: list[PhotoChange] = []
        lost: list[Photo] = []
        for news in batch:
            photo = photos.get(news.node_id)
            if photo is None:
                continue
            change = change_of(photo, nodes[news.node_id], news, trust_former=trust_former)
            if change is not None:
                changes.append(change)
            elif has_lost_node(photo, nodes[news.node_id]):
                lost.append(photo)
        changed = await self._catalogue.change_photos(changes)
        self.count(changed)
        self._time(former, changed)
        await self._clean_up(photos, nodes, changed, lost)
        done = [*reopened, *changed]
        newest = {each.photo.node_id: each.photo for each in done if each.photo is not None}
        # Also without a change: this process may have died between a commit and its announcement.
        named = {news.node_id for news in batch if news.kind is not NewsKind.CHECK}
        announced = {**{key: photo for key, photo in photos.items() if key in named}, **newest}
        deleted = {photo.job_id for photo in lost}
        jobs = [each.job for each in done if each.job is not None]
        await self._announcer.announce(
            announced.values(), [job for job in jobs if job.job_id not in deleted]
        )
        return changed

    async def look_at(self, photo: Photo) -> None:
        """Compare a photo with its node, without news of it. Raise `SluiceError`."""
        await self.project_all([NodeNews(photo.node_id, NewsKind.CHECK)])

    def count(self, changed: Sequence[ChangedPhoto]) -> None:
        """Count changes by their outcome, and the ends of photos among them."""
        for each in changed:
            self._metrics.changes.labels(each.outcome.name.lower()).inc()
        count_ends(self._metrics.ends, changed)

    def _time(self, former: Mapping[str, Photo], changed: Sequence[ChangedPhoto]) -> None:
        """Observe how long photos were in PROCESSING, unless they passed through it just now."""
        for each in changed:
            photo = each.photo
            if photo is None or each.outcome is not Outcome.APPLIED:
                continue
            before = former[photo.node_id]
            if (before.status, photo.status) == (PhotoStatus.PROCESSING, PhotoStatus.COMPLETED):
                self._metrics.duration.observe(max(0.0, photo.updated_at - before.updated_at))

    async def _project_batch(self, batch: Sequence[NodeNews]) -> Sequence[None]:
        await self.project_all(batch)
        return [None] * len(batch)

    async def _node_states(self, photos: Mapping[str, Photo]) -> Mapping[str, NodeState]:
        """Return the states of the nodes of these photos, by node id."""
        live = await self._catalogue.candidates(list(photos))
        by_tenant: defaultdict[str, list[str]] = defaultdict(list)
        for node_id, candidate in live.items():
            by_tenant[candidate.node.tenant].append(node_id)
        results: dict[str, Processing] = {}
        for tenant, node_ids in by_tenant.items():
            results.update(await self._catalogue.processing_of(tenant, node_ids))
        return {node_id: NodeState(node_id in live, results.get(node_id)) for node_id in photos}

    async def _reopen_late(
        self, photos: Mapping[str, Photo], nodes: Mapping[str, NodeState]
    ) -> Sequence[ChangedPhoto]:
        """Reopen photos whose objects arrived after they had failed; return them."""
        reopened: list[ChangedPhoto] = []
        for node_id, photo in photos.items():
            if not has_arrived_late(photo, nodes[node_id]):
                continue
            # Its owner deletes the photo, or somebody its node, at the same moment.
            with suppress(NotFound, FailedPrecondition):
                changed = await self._catalogue.reopen_photo(
                    photo.owner, photo.photo_id, Reopening.ARRIVED
                )
                if changed.photo is not None:
                    _log.info("photo.arrived_late", node_id=node_id, photoId=photo.photo_id)
                    reopened.append(changed)
        return reopened

    async def _clean_up(
        self,
        photos: Mapping[str, Photo],
        nodes: Mapping[str, NodeState],
        changed: Sequence[ChangedPhoto],
        lost: Sequence[Photo],
    ) -> None:
        # A change may be late: the photos as they are after it decide.
        newest = {**photos, **{each.photo.node_id: each.photo for each in changed if each.photo}}
        for node_id, photo in newest.items():
            if must_delete_node(photo) and nodes[node_id].is_live:
                _log.info("node.unwanted", node_id=node_id, photoId=photo.photo_id)
                with suppress(NotFound):
                    await self._catalogue.delete_node(photo.owner.tenant, node_id)
        for photo in lost:
            _log.info("photo.lost", node_id=photo.node_id, photoId=photo.photo_id)
            with suppress(NotFound):  # deleted by its owner at the same moment
                await self._catalogue.delete_photo(photo.owner, photo.photo_id)
