"""Photos of upload jobs whose bytes come by tus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sluice_core.access.decisions import require_scope
from sluice_core.access.principal import Principal
from sluice_core.access.scopes import Scope
from sluice_core.photos.ids import check_photo_id
from sluice_core.photos.model import Owner, Photo
from sluice_core.ports.photos import PhotoCatalogue
from sluice_gateway.tus import refusals
from sluice_gateway.tus.headers import Concat
from sluice_gateway.tus.intake import Upload

PHOTO_KEY = "photoId"
"""Metadata that names the photo."""


@dataclass(frozen=True, slots=True)
class PhotoUploads:
    """Binds uploads to photos. `catalogue`: None for a gateway without photos."""

    catalogue: PhotoCatalogue | None

    async def photo_of(
        self, principal: Principal, metadata: Mapping[str, str], concat: Concat | None, length: int
    ) -> Photo | None:
        """Return the photo that a new upload of `length` bytes is for; None if it names none.

        A partial upload is for none: the final one names it.

        Raise `NotFound` PHOTO_NOT_FOUND; `PermissionDenied` MISSING_SCOPE; `InvalidArgument`
        BAD_PHOTO_ID, BAD_PHOTO_SIZE.
        """
        photo_id = metadata.get(PHOTO_KEY)
        if not photo_id or (concat is not None and not concat.is_final):
            return None
        require_scope(principal, Scope.PHOTOS_WRITE)
        check_photo_id(photo_id)
        if self.catalogue is None:
            raise refusals.photo_not_found()
        photo = await self.catalogue.get_photo(_owner(principal), photo_id)
        if length != photo.size:
            raise refusals.other_photo_size(photo.size)
        return photo

    async def bind(self, principal: Principal, photo: Photo | None, upload: Upload) -> None:
        """Let the photo become the node of this upload. A repeat has no effect.

        Raise `FailedPrecondition` PHOTO_UPLOADED, PHOTO_ENDED.
        """
        if photo is None or photo.node_id == upload.node_id:
            return
        assert self.catalogue is not None, "it had the photo"
        await self.catalogue.assign_node(_owner(principal), photo.photo_id, upload.node_id)


def _owner(principal: Principal) -> Owner:
    return Owner(principal.tenant, principal.subject)
