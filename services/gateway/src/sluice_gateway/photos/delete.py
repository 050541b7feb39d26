"""Command: delete a photo."""

from __future__ import annotations

from sluice_core.photos.states import is_terminal
from sluice_gateway.jobs.callers import Caller
from sluice_gateway.jobs.services import PhotoServices


async def delete_photo(services: PhotoServices, caller: Caller, photo_id: str) -> None:
    """Delete a photo for its owner; cancel it if it is under way.

    Its object and thumbnails are deleted when the last URL for them has expired.

    Raise `NotFound` PHOTO_NOT_FOUND, also at a repeat.
    """
    # Before anything is locked: a stranger neither waits for the owner's requests nor delays them.
    await services.catalogue.get_photo(caller.owner, photo_id)
    photo = await services.catalogue.delete_photo(
        caller.owner, photo_id, audit=caller.audit("DeletePhoto", f"photo/{photo_id}")
    )
    if is_terminal(photo.status):
        return
    await services.multiparts.discard([photo])
    now = await services.catalogue.photos_of_nodes([photo.node_id])
    await services.announcer.announce(now.values())
