"""The sweeper of photos: what no event will mend any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

import structlog

from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import NotFound, SluiceError
from sluice_core.photos.changes import PhotoChange
from sluice_core.photos.model import Photo
from sluice_core.photos.states import TAKES_PARTS, PhotoStatus
from sluice_core.ports.catalogue import ObjectIntent
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.object_listener import ObjectCreated
from sluice_core.ports.object_store import ObjectStore
from sluice_core.uploads.ids import direct_upload_id, nonce_of
from sluice_core.uploads.model import ObjectRef
from sluice_gateway.metrics import ProjectionMetrics
from sluice_gateway.projection.announcing import Announcer
from sluice_gateway.projection.news import NewsKind, NodeNews
from sluice_gateway.projection.projector import Projector

NOT_ARRIVED: Final = "NOT_ARRIVED"
"""Reason of a photo whose object did not arrive in time."""

_PAGE: Final = 200
_DIRECT: Final = nonce_of(direct_upload_id(""))

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """When the sweeper acts. Seconds.

    arrival_seconds: time for the object of a photo to arrive; longer than any URL is valid.
    quiet_seconds: time without a change after which an open photo is compared with its node.
    stuck_seconds: time in PROCESSING after which a failure of a former attempt counts.
    intent_seconds: age of a multipart before it may count as abandoned.
    """

    interval_seconds: float = 60.0
    arrival_seconds: float = 24 * 3600.0
    quiet_seconds: float = 300.0
    stuck_seconds: float = 3600.0
    intent_seconds: float = 3600.0


class PhotoSweeper:
    """Sweeps in every replica: each step is idempotent and excludes others by the job's lock.

    Args:
        object_created: notifies of an object whose notification was lost.
    """

    def __init__(
        self,
        catalogue: GatewayCatalogue,
        objects: ObjectStore,
        projector: Projector,
        announcer: Announcer,
        metrics: ProjectionMetrics,
        options: SweepOptions,
        object_created: ObjectCreated,
    ) -> None:
        self._catalogue = catalogue
        self._objects = objects
        self._projector = projector
        self._announcer = announcer
        self._metrics = metrics
        self._options = options
        self._object_created = object_created

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep once per interval until `stop`."""
        while not await wait_at_most(stop, self._options.interval_seconds):
            await self.sweep()

    async def sweep(self) -> None:
        """Do every kind once. One that fails is logged; the others still run."""
        kinds: Mapping[str, Callable[[], Awaitable[int]]] = {
            "reconciled": self._reconcile,
            "expired": self._expire,
            "multiparts": self._abort_multiparts,
        }
        for kind, sweep_kind in kinds.items():
            try:
                self._metrics.swept.labels(kind).inc(await sweep_kind())
            except SluiceError as error:
                _log.warning("sweep.failed", kind=kind, error=str(error))
            except Exception:  # noqa: BLE001 - a defect here must not end the gateway
                _log.exception("sweep.failed", kind=kind)

    async def _reconcile(self) -> int:
        """Compare open photos with their nodes: an event may have been lost as a dead letter."""
        done, now = 0, await self._catalogue.now()
        stuck_since = now - self._options.stuck_seconds
        after = ""
        while True:
            page = await self._catalogue.open_photos(
                now - self._options.quiet_seconds, _PAGE, after
            )
            for is_stuck in (False, True):
                news = [
                    NodeNews(photo.node_id, NewsKind.CHECK)
                    for photo in page
                    if (photo.updated_at < stuck_since) is is_stuck
                ]
                done += len(await self._projector.project_all(news, trust_former=is_stuck))
            if len(page) < _PAGE:
                return done
            after = page[-1].photo_id

    async def _expire(self) -> int:
        """Let photos fail whose object has not arrived; notify of those that were overlooked."""
        done, after = 0, ""
        before = await self._catalogue.now() - self._options.arrival_seconds
        while True:
            page = await self._catalogue.open_photos(before, _PAGE, after)
            missing = [
                photo
                for photo in page
                if photo.status in TAKES_PARTS and not await self._has_arrived(photo)
            ]
            done += await self._fail(missing)
            if len(page) < _PAGE:
                return done
            after = page[-1].photo_id

    async def _has_arrived(self, photo: Photo) -> bool:
        try:
            info = await self._objects.head(photo.object)
        except NotFound:  # the bucket has gone
            return False
        if info is None:
            return False
        _log.warning("object.overlooked", photoId=photo.photo_id, node_id=photo.node_id)
        await self._object_created(photo.object, happened_at=photo.updated_at)
        return True

    async def _fail(self, photos: Sequence[Photo]) -> int:
        hours = self._options.arrival_seconds / 3600
        changed = await self._catalogue.change_photos(
            [
                PhotoChange(
                    photo.photo_id,
                    PhotoStatus.FAILED,
                    photo.attempt,
                    reason=NOT_ARRIVED,
                    detail=f"The photo did not arrive within {hours:g} hours; retry its upload.",
                )
                for photo in photos
            ]
        )
        self._projector.count(changed)
        await self._announcer.announce(photos)
        return len(changed)

    async def _abort_multiparts(self) -> int:
        """Abort the multiparts of photos that take no parts any more, by their intents."""
        older_than = await self._catalogue.now() - self._options.intent_seconds
        done = offset = 0
        while True:
            page = await self._catalogue.stale_intents(older_than, _PAGE, offset)
            own = [intent for intent in page if nonce_of(intent.upload_id) == _DIRECT]
            aborted = 0
            for intent in own:
                aborted += await self._abort(intent)
            done += aborted
            if len(page) < _PAGE:
                return done
            offset += len(page) - aborted

    async def _abort(self, intent: ObjectIntent) -> bool:
        """Abort the multiparts of an intent and clear it; return False while it is needed.

        First the list, then the photo: a retry in between leads to an attempt that is under way.
        Every multipart in the list was opened before the photo was read. So when that has no
        attempt under way, none of them is of one, also if one begins afterwards.
        """
        try:
            # Those too which a crash left unrecorded.
            open_ids = {*await self._objects.open_multiparts(intent.object), intent.multipart_id}
        except NotFound as gone:
            if gone.reason != "BUCKET_NOT_FOUND":
                raise
            open_ids = set()
        node_id = _node_of(intent.object)
        photo = (await self._catalogue.photos_of_nodes([node_id])).get(node_id)
        if photo is None or photo.deleted_at is not None or photo.status not in TAKES_PARTS:
            await self._abort_all(intent.object, open_ids)
            await self._catalogue.clear_intent(intent.upload_id, intent.object)
            _log.info("multipart.aborted", upload_id=intent.upload_id)
            return True
        if _attempt_of(intent) != photo.attempt and intent.multipart_id != photo.multipart_id:
            # Of the others, none can be told from those of the attempt that is under way. The
            # intent stays, so that they go when that is over.
            await self._abort_all(intent.object, {intent.multipart_id})
        return False

    async def _abort_all(self, ref: ObjectRef, multipart_ids: Set[str]) -> None:
        for multipart_id in sorted(multipart_ids - {""}):
            await self._objects.abort_multipart(ref, multipart_id)


def _node_of(ref: ObjectRef) -> str:
    """Return the node of an object (rule 14)."""
    return ref.key.rpartition("/")[2]


def _attempt_of(intent: ObjectIntent) -> int:
    """Return the attempt in `direct-{node id}-{attempt}`; 0 for another id."""
    number = intent.upload_id.removeprefix(direct_upload_id(_node_of(intent.object)))
    return int(number[1:]) if number[:1] == "-" and number[1:].isdigit() else 0
