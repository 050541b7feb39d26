"""The sweeper of photos: what no event will mend any more."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import structlog

from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import NotFound, SluiceError
from sluice_core.photos.changes import PhotoChange
from sluice_core.photos.model import Photo
from sluice_core.photos.states import NOT_ARRIVED, TAKES_PARTS, PhotoStatus
from sluice_core.ports.catalogue import ObjectIntent
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.object_listener import ObjectCreated
from sluice_core.ports.object_store import ObjectStore
from sluice_core.uploads.ids import direct_upload_id
from sluice_gateway.jobs.announcements import Announcer
from sluice_gateway.jobs.ends import applied_count
from sluice_gateway.metrics import ProjectionMetrics
from sluice_gateway.projection.multiparts import AbandonedMultiparts, is_direct
from sluice_gateway.projection.news import NewsKind, NodeNews
from sluice_gateway.projection.projector import Projector
from sluice_gateway.projection.turns import Turn

DRIVE_NOT_FOUND: Final = "DRIVE_NOT_FOUND"
"""Reason of a photo whose object cannot become a node, since its drive was deleted."""

_LEASE: Final = "photo-sweeper"
_LEASE_SECONDS: Final = 10.0
_RELEASE_SECONDS: Final = 2.0
_PAGE: Final = 200
_ENDED_PHOTOS: Final = 2_000
"""Ended photos that a turn compares with their nodes: all of them in turns, so that the cost does
not grow with the table."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """When the sweeper acts. Seconds.

    arrival_seconds: time for the object of a photo to arrive after its client got the last URL;
        longer than any URL is valid.
    quiet_seconds: time without a change after which an open photo is compared with its node.
    stuck_seconds: age of an attempt at which a failure of a former one counts.
    intent_seconds: age of a multipart before it may count as abandoned.
    turn_seconds: time of each kind of work in one sweep.
    """

    interval_seconds: float = 60.0
    arrival_seconds: float = 24 * 3600.0
    quiet_seconds: float = 300.0
    stuck_seconds: float = 3600.0
    intent_seconds: float = 3600.0
    turn_seconds: float = 60.0


class PhotoSweeper:
    """Mends photos in turns. One replica sweeps at a time, which saves work.

    Every step is idempotent and excludes others by the job's lock, so two would do no harm.

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
        self._multiparts = AbandonedMultiparts(catalogue, objects)
        self._holder = secrets.token_hex(8)
        # Where the next turn goes on.
        self._places: dict[str, Photo] = {}
        self._ended_place = ""
        self._intents_passed = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep once per interval until `stop`, while no other replica does."""
        try:
            while not await wait_at_most(stop, self._options.interval_seconds):
                if await self._holds_lease():
                    await self.sweep()
        finally:
            with suppress(SluiceError, TimeoutError):  # it runs out
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await self._catalogue.release_lease(_LEASE, self._holder)

    async def sweep(self) -> None:
        """Do a turn of every kind. One that fails is logged; the others still run."""
        kinds: Mapping[str, Callable[[Turn], Awaitable[int]]] = {
            "reconciled": self._reconcile,
            "ended": self._reconcile_ended,
            "expired": self._expire,
            "multiparts": self._abort_multiparts,
        }
        for kind, sweep_kind in kinds.items():
            turn = Turn(kind, self._options.turn_seconds)
            try:
                self._metrics.swept.labels(kind).inc(await sweep_kind(turn))
            except SluiceError as error:
                _log.warning("sweep.failed", kind=kind, error=str(error))
            except Exception:  # noqa: BLE001 - a defect here must not end the gateway
                _log.exception("sweep.failed", kind=kind)

    async def _holds_lease(self) -> bool:
        seconds = max(_LEASE_SECONDS, 3 * self._options.interval_seconds)
        try:
            return await self._catalogue.hold_lease(_LEASE, self._holder, seconds)
        except SluiceError as error:
            _log.warning("sweep.failed", kind="lease", error=str(error))
            return False

    async def _reconcile(self, turn: Turn) -> int:
        """Compare open photos with their nodes: an event may have been lost as a dead letter."""
        now = await self._catalogue.now()
        stuck_since = now - self._options.stuck_seconds

        async def fetch(after: Photo | None) -> Sequence[Photo]:
            return await self._catalogue.open_photos(
                now - self._options.quiet_seconds, _PAGE, after
            )

        async def compare(page: Sequence[Photo]) -> tuple[int, int]:
            return await turn.together(page, partial(self._check, stuck_since=stuck_since))

        return await self._walk(turn, fetch, compare)

    async def _check(self, photos: Sequence[Photo], *, stuck_since: float) -> int:
        done = 0
        for is_stuck in (False, True):
            news = [
                NodeNews(photo.node_id, NewsKind.CHECK)
                for photo in photos
                if (photo.attempt_started_at < stuck_since) is is_stuck
            ]
            changed = await self._projector.project_all(news, trust_former=is_stuck)
            done += applied_count(changed)
        return done

    async def _reconcile_ended(self, turn: Turn) -> int:
        """Compare ended photos with their nodes, which may have come or gone afterwards."""

        async def check(photos: Sequence[Photo]) -> int:
            await self._projector.project_all(
                [NodeNews(photo.node_id, NewsKind.CHECK) for photo in photos]
            )
            return len(photos)

        found = await self._catalogue.contradicted_photos(_ENDED_PHOTOS, self._ended_place)
        self._ended_place = found.next_after
        done, _ = await turn.together(found.photos, check)
        return done

    async def _expire(self, turn: Turn) -> int:
        """Let photos fail whose object has not arrived; notify of those that were overlooked."""
        now = await self._catalogue.now()
        asked_before = now - self._options.arrival_seconds

        async def fetch(after: Photo | None) -> Sequence[Photo]:
            return await self._catalogue.open_photos(
                now - self._options.quiet_seconds, _PAGE, after, asked_before=asked_before
            )

        async def finish(page: Sequence[Photo]) -> tuple[int, int]:
            ends = await turn.each(page, self._end_of)
            changes = [replace(end, asked_before=asked_before) for end in ends if end is not None]
            done, _ = await turn.together(changes, self._fail)
            return done, len(ends)

        return await self._walk(turn, fetch, finish)

    async def _end_of(self, photo: Photo) -> PhotoChange | None:
        """Return how a photo ends whose object has not become a node; None if it is under way."""
        if photo.status not in TAKES_PARTS:
            return None
        try:
            info = await self._objects.head(photo.object)
        except NotFound:  # the bucket has gone
            info = None
        if info is None:
            hours = self._options.arrival_seconds / 3600
            detail = f"The photo did not arrive within {hours:g} hours; retry its upload."
            return _failure(photo, NOT_ARRIVED, detail)
        _log.warning("object.overlooked", photoId=photo.photo_id, node_id=photo.node_id)
        try:
            await self._object_created(photo.object, happened_at=photo.updated_at)
            await self._catalogue.get_drive(photo.owner.tenant, photo.drive)
        except SluiceError as error:
            if error.retryable:
                raise
            if error.reason == DRIVE_NOT_FOUND:
                await self._abandon(photo)
                return _failure(
                    photo, DRIVE_NOT_FOUND, "The photo's drive was deleted before it arrived."
                )
            return _failure(photo, error.reason, error.message)
        return None

    async def _abandon(self, photo: Photo) -> None:
        """Have the object of a photo removed that no node will ever name."""
        upload_id = direct_upload_id(photo.node_id)
        await self._catalogue.abandon_intent(
            ObjectIntent(upload_id, photo.owner.tenant, photo.object, "", photo.created_at)
        )

    async def _fail(self, changes: Sequence[PhotoChange]) -> int:
        changed = await self._catalogue.change_photos(changes)
        self._projector.count(changed)
        await self._announcer.announce(
            [each.photo for each in changed if each.photo is not None],
            [each.job for each in changed if each.job is not None],
        )
        return applied_count(changed)

    async def _walk(
        self,
        turn: Turn,
        fetch: Callable[[Photo | None], Awaitable[Sequence[Photo]]],
        handle: Callable[[Sequence[Photo]], Awaitable[tuple[int, int]]],
    ) -> int:
        """Handle open photos page by page, from where the turn before was over.

        Args:
            handle: returns how many photos of a page it mended, and how many it has begun.
        """
        done, after = 0, self._places.pop(turn.kind, None)
        while not turn.is_over:
            page = await fetch(after)
            mended, begun = await handle(page)
            done += mended
            if begun == len(page) < _PAGE:
                return done
            if begun:
                after = page[begun - 1]
        if after is not None:
            self._places[turn.kind] = after
        return done

    async def _abort_multiparts(self, turn: Turn) -> int:
        """Abort the multiparts of photos that take no parts any more, by their intents."""
        older_than = await self._catalogue.now() - self._options.intent_seconds
        done, passed, self._intents_passed = 0, self._intents_passed, 0
        while not turn.is_over:
            page = await self._catalogue.stale_intents(older_than, _PAGE, passed)
            own = [intent for intent in page if is_direct(intent)]
            results = await turn.each(own, self._multiparts.abort)
            aborted = sum(result is True for result in results)
            done += aborted
            if len(results) == len(own):
                if len(page) < _PAGE:
                    return done
                passed += len(page) - aborted
            elif results:
                passed += page.index(own[len(results) - 1]) + 1 - aborted
        self._intents_passed = passed
        return done


def _failure(photo: Photo, reason: str, detail: str) -> PhotoChange:
    return PhotoChange(
        photo.photo_id, PhotoStatus.FAILED, photo.attempt, reason=reason, detail=detail
    )
