"""A sweeper of photos, and what it works on."""

from __future__ import annotations

from dataclasses import dataclass, field

from sluice_backends.files.store import FileObjectStore
from sluice_core.errors import SluiceError
from sluice_core.objects.body import BytesBody
from sluice_core.photos.model import Photo
from sluice_core.photos.states import PhotoStatus, Reopening
from sluice_core.ports.catalogue import ObjectIntent
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.ids import direct_multipart_id
from sluice_core.uploads.model import ObjectRef
from sluice_gateway.jobs.announcements import Announcer
from sluice_gateway.projection.sweeper import PhotoSweeper, SweepOptions
from support.photo_jobs import ANN, change_photo
from support.projection import Stage

NOW = SweepOptions(
    interval_seconds=0.0,
    arrival_seconds=-60.0,
    quiet_seconds=-60.0,
    stuck_seconds=-60.0,
    intent_seconds=-60.0,
)
"""Everything is due at once."""
MULTIPARTS = SweepOptions(intent_seconds=-60.0)
"""Multiparts are due at once; photos have time."""


@dataclass
class SweptRoom:
    """A sweeper and what it works on."""

    stage: Stage
    store: FileObjectStore
    created: list[ObjectRef] = field(default_factory=list)
    refusal: SluiceError | None = None
    """Answer to notifications."""

    def sweeper(
        self, options: SweepOptions = NOW, kind: type[PhotoSweeper] = PhotoSweeper
    ) -> PhotoSweeper:
        stage = self.stage
        return kind(
            stage.catalogue,
            self.store,
            stage.projector(),
            Announcer(stage.catalogue, stage.live),
            stage.metrics,
            options,
            self.object_created,
        )

    async def object_created(self, ref: ObjectRef, *, happened_at: float) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.created.append(ref)

    async def put(self, photo: Photo) -> None:
        await self.store.put(photo.object, BytesBody(b"x" * 10), ObjectAttributes("image/jpeg"))

    async def open_multipart(self, photo: Photo) -> str:
        """Open a multipart as the command does: first its intent."""
        attributes = ObjectAttributes("image/jpeg")
        multipart_id = await self.store.open_multipart(photo.object, attributes, by_clients=True)
        upload_id = direct_multipart_id(photo.node_id, photo.attempt)
        intent = ObjectIntent(upload_id, photo.owner.tenant, photo.object, multipart_id, 1.0)
        await self.stage.catalogue.record_intent(intent)
        await self.stage.catalogue.set_multipart(photo.photo_id, photo.attempt, multipart_id)
        return multipart_id

    async def retry(self, photo: Photo) -> str:
        """Let the photo fail, and open the multipart of its next attempt."""
        catalogue = self.stage.catalogue
        await change_photo(catalogue, photo, PhotoStatus.FAILED, reason="GONE")
        await catalogue.reopen_photo(ANN, photo.photo_id, Reopening.RETRY)
        return await self.open_multipart(await self.stage.photo(photo))

    async def multiparts(self, photo: Photo) -> set[str]:
        return set(await self.store.open_multiparts(photo.object))
