"""Catalogue port: tags of photos."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sluice_core.photos.model import Owner


@dataclass(frozen=True, slots=True)
class TagCount:
    label: str
    photos: int


@dataclass(frozen=True, slots=True)
class TagPage:
    tags: tuple[TagCount, ...]
    next_after: str


class TagCatalogue(Protocol):
    """Tags, which belong to an owner and are compared bytewise. Labels were checked.

    Changes raise `NotFound` PHOTO_NOT_FOUND as those of photos do.
    """

    async def add_tags(self, owner: Owner, photo_id: str, labels: Collection[str]) -> Sequence[str]:
        """Add tags to a photo; return all of its labels in order.

        With PhotoTagsChanged if there is a new one. Raise `FailedPrecondition` TOO_MANY_TAGS beyond
        `MAX_TAGS_OF_PHOTO`.
        """
        ...

    async def remove_tags(
        self, owner: Owner, photo_id: str, labels: Collection[str]
    ) -> Sequence[str]:
        """Remove tags from a photo; return the remaining labels in order."""
        ...

    async def tags_of(self, photo_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return the labels of each of these photos in order; those without tags are missing."""
        ...

    async def list_tags(self, owner: Owner, limit: int, after: str = "") -> TagPage:
        """Return the tags that photos have, by label, starting after this label."""
        ...
