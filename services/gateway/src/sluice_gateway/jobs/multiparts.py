"""Multiparts of photos in the store: opened by intent, completed by the store's own list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from sluice_core.errors import NotFound, SluiceError
from sluice_core.photos.model import Photo
from sluice_core.ports.catalogue import Drive, ObjectIntent
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.object_store import ObjectStore, PartTag
from sluice_core.uploads.ids import direct_multipart_id
from sluice_gateway.jobs.signing import attributes_of

KEPT_SECONDS: Final = 24 * 3600.0
"""How much longer than that of an upload the intent of a multipart is respected: a person may
close the page and go on tomorrow."""
_CONCURRENT_ABORTS: Final = 8

_log = structlog.get_logger(__name__)


class Multiparts:
    """Opens, completes and aborts multiparts of photos.

    Raises the errors of `ObjectStore` and of the catalogue.
    """

    def __init__(
        self,
        objects: ObjectStore,
        catalogue: GatewayCatalogue,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._objects = objects
        self._catalogue = catalogue
        self._clock = clock

    async def open(self, drive: Drive, photo: Photo) -> str:
        """Return the multipart of the photo's attempt; open it if there is none.

        Raise `FailedPrecondition` PHOTO_ENDED for an attempt that takes no parts any more.
        """
        if photo.multipart_id:
            return photo.multipart_id
        # First the intent (rule 13): the sweeper finds a multipart that nobody records.
        await self._record_intent(photo, "")
        opened = await self._objects.open_multipart(
            photo.object, attributes_of(drive, photo), by_clients=True
        )
        await self._record_intent(photo, opened)
        try:
            known = await self._catalogue.set_multipart(photo.photo_id, photo.attempt, opened)
        except SluiceError:
            await self._abort(photo, opened)
            raise
        if known != opened:
            # A concurrent request was faster.
            await self._abort(photo, opened)
            await self._record_intent(photo, known)
        return known

    async def stored_parts(self, photo: Photo, multipart_id: str) -> Sequence[PartTag] | None:
        """Return the parts that the store has; None if it has no such multipart any more."""
        try:
            return await self._objects.list_parts(photo.object, multipart_id)
        except NotFound as error:
            if error.reason != "MULTIPART_NOT_FOUND":
                raise
            return None

    async def complete(self, photo: Photo, multipart_id: str, parts: Sequence[PartTag]) -> bool:
        """Make the object of these parts; return whether it is there.

        The answer to a former call may have been lost: the object decides.
        """
        try:
            await self._objects.complete_multipart(
                photo.object, multipart_id, parts, by_clients=True
            )
        except NotFound as error:
            if error.reason != "MULTIPART_NOT_FOUND":
                raise
            return await self.has_object(photo)
        return True

    async def has_object(self, photo: Photo) -> bool:
        """Return whether the store has the photo's object, with all of its bytes."""
        info = await self._objects.head(photo.object)
        return info is not None and info.size == photo.size

    async def discard(self, photos: Iterable[Photo]) -> None:
        """Abort the multiparts of attempts that are over. Best effort: the sweeper has the rest."""
        turns = asyncio.Semaphore(_CONCURRENT_ABORTS)

        async def discard_one(photo: Photo) -> None:
            async with turns:
                await self._abort(photo, photo.multipart_id)

        async with asyncio.TaskGroup() as tasks:
            for photo in photos:
                if photo.multipart_id:
                    tasks.create_task(discard_one(photo))

    async def _abort(self, photo: Photo, multipart_id: str) -> None:
        try:
            await self._objects.abort_multipart(photo.object, multipart_id)
        except SluiceError as error:
            _log.warning("multipart.abort_failed", photoId=photo.photo_id, reason=error.reason)

    async def _record_intent(self, photo: Photo, multipart_id: str) -> None:
        await self._catalogue.record_intent(
            ObjectIntent(
                direct_multipart_id(photo.node_id, photo.attempt),
                photo.owner.tenant,
                photo.object,
                multipart_id,
                self._clock() + KEPT_SECONDS,
            )
        )
