"""Commands and query of tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sluice_core.photos.names import check_label
from sluice_gateway.http.paging import decode_cursor, encode_cursor
from sluice_gateway.jobs.callers import Caller
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.photos.views import TagCountView, TagPageView, TagsView

_KIND: Final = "tags"


async def add_tags(
    services: PhotoServices, caller: Caller, photo_id: str, labels: Sequence[str]
) -> TagsView:
    """Add tags to a photo; return all of them. Known ones have no effect.

    Raise `NotFound` PHOTO_NOT_FOUND; `InvalidArgument` BAD_TAG; `FailedPrecondition` TOO_MANY_TAGS.
    """
    checked = {check_label(label, f"tags.{index}") for index, label in enumerate(labels)}
    # Before anything is locked: a stranger neither waits for the owner's requests nor delays them.
    await services.catalogue.get_photo(caller.owner, photo_id)
    every = await services.catalogue.add_tags(caller.owner, photo_id, checked)
    return TagsView(photo_id=photo_id, tags=list(every))


async def remove_tags(
    services: PhotoServices, caller: Caller, photo_id: str, labels: Sequence[str]
) -> TagsView:
    """Remove tags from a photo; return the rest. Unknown ones have no effect.

    Raise `NotFound` PHOTO_NOT_FOUND; `InvalidArgument` BAD_TAG.
    """
    checked = {check_label(label, "tag") for label in labels}
    # Before anything is locked: a stranger neither waits for the owner's requests nor delays them.
    await services.catalogue.get_photo(caller.owner, photo_id)
    rest = await services.catalogue.remove_tags(caller.owner, photo_id, checked)
    return TagsView(photo_id=photo_id, tags=list(rest))


async def list_tags(
    services: PhotoServices, caller: Caller, *, size: int, cursor: str | None
) -> TagPageView:
    """Return a page of the caller's tags with counts. Raise `InvalidArgument` BAD_CURSOR."""
    after = "" if cursor is None else decode_cursor(_KIND, cursor, (str,))[0]
    page = await services.catalogue.list_tags(caller.owner, size, after)
    return TagPageView(
        items=[TagCountView(label=tag.label, count=tag.photos) for tag in page.tags],
        next=encode_cursor(_KIND, [page.next_after]) if page.next_after else None,
    )
