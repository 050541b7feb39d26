"""Catalogue port: photos, and the parts of their multipart uploads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sluice_core.access.audit import AuditEntry
from sluice_core.photos.changes import Outcome, PhotoChange
from sluice_core.photos.model import Owner, Photo, UploadJob
from sluice_core.photos.states import PhotoStatus, Reopening


class PhotoSort(StrEnum):
    CREATED = "createdAt"
    DATED = "takenAt"
    """When it was taken, or added while that is unknown."""
    FILENAME = "filename"
    """In the order of the UTF-8."""


@dataclass(frozen=True, slots=True)
class PhotoFilter:
    """Which photos to list, and how. Empty and None mean any."""

    tag: str = ""
    text: str = ""
    """Part of the file name, without regard to case."""
    status: PhotoStatus | None = None
    taken_from: float | None = None
    """From this time on (`Photo.dated_at`), in Unix seconds."""
    taken_to: float | None = None
    """Before this time."""
    sort: PhotoSort = PhotoSort.CREATED
    descending: bool = True


ALL_PHOTOS = PhotoFilter()


@dataclass(frozen=True, slots=True)
class PhotoCursor:
    """Place in a listing: after the photo with this value of its sort and this id."""

    value: float | str
    photo_id: str


@dataclass(frozen=True, slots=True)
class PhotoPage:
    photos: tuple[Photo, ...]
    next_after: PhotoCursor | None


@dataclass(frozen=True, slots=True)
class ContradictedPhotos:
    """Photos of a slice that their nodes contradict; `next_after` is empty at the last slice."""

    photos: Sequence[Photo]
    next_after: str


@dataclass(frozen=True, slots=True)
class ChangedPhoto:
    """What became of a change. `photo` and `job` are as they are now; None for an unknown photo."""

    outcome: Outcome
    photo: Photo | None = None
    job: UploadJob | None = None


@dataclass(frozen=True, slots=True)
class UploadPart:
    """A part that the store has. Numbers begin at 1."""

    number: int
    size: int
    etag: str


class PhotoCatalogue(Protocol):
    """Photos.

    A change commits with the counts of its job and its events. All changes of the photos of one job
    exclude each other. Methods with an owner raise `NotFound` PHOTO_NOT_FOUND for an unknown or
    deleted photo, and for another owner's.
    """

    async def get_photo(self, owner: Owner, photo_id: str) -> Photo: ...

    async def photos_of_nodes(self, node_ids: Sequence[str]) -> Mapping[str, Photo]:
        """Return the photos of these nodes by node id, of all owners, deleted ones included.

        For the projector, which learns of nodes.
        """
        ...

    async def open_photos(
        self,
        unchanged_since: float,
        limit: int,
        after: Photo | None = None,
        *,
        asked_before: float | None = None,
    ) -> Sequence[Photo]:
        """Return open photos without a change since this time, from all owners.

        In the order of their last change, after that photo of a former page. With `asked_before`
        only those whose clients got no URL since. For the sweeper, which looks for what got stuck.
        """
        ...

    async def contradicted_photos(self, slice_size: int, after: str = "") -> ContradictedPhotos:
        """Return the ended photos that their nodes contradict, among the next ones by their id.

        These are CANCELLED or deleted ones with a live node, COMPLETED ones without, and those that
        FAILED because their object had not arrived, which has a live node now. A slice has any
        photos, so that its cost does not depend on how few are found.
        """
        ...

    async def list_photos(
        self,
        owner: Owner,
        limit: int,
        after: PhotoCursor | None = None,
        wanted: PhotoFilter = ALL_PHOTOS,
        *,
        skip: int = 0,
    ) -> PhotoPage:
        """Return photos that are not deleted, starting after the cursor and `skip` further ones.

        A cursor is good for the sort that it came from.
        """
        ...

    async def change_photos(
        self, changes: Sequence[PhotoChange], *, audit: AuditEntry | None = None
    ) -> Sequence[ChangedPhoto]:
        """Apply changes in one transaction; return what became of each, in their order.

        A photo is COMPLETED only if its node is live and processed (otherwise UNPROCESSED). The
        object of a CANCELLED photo is removed: a live node becomes a tombstone; without a node, the
        deletion of the object is scheduled for the end of every signed URL. If the object becomes a
        node afterwards, the change that announces it is LATE, and the caller deletes the node. The
        same holds for a deleted photo.
        `audit` is appended if any change is APPLIED.
        """
        ...

    async def reopen_photo(
        self,
        owner: Owner,
        photo_id: str,
        how: Reopening,
        *,
        audit: AuditEntry | None = None,
        trace_parent: str = "",
    ) -> ChangedPhoto:
        """Give a FAILED photo another attempt; REPEATED if that has begun (or see `reopen`).

        For REPROCESS the outbox gets a ProcessingRequested, also for a repeat.

        Raise `FailedPrecondition` PHOTO_ENDED, PHOTO_NOT_FAILED; OBJECT_DELETED for a photo whose
        node is a tombstone (rule 19: no node id is committed twice); OBJECT_EXISTS for a retry of a
        photo with a live node; OBJECT_MISSING for another processing, or an arrival, without a
        node. The multipart of the former attempt is left to the
        sweeper, which knows it by its intent.
        """
        ...

    async def delete_photo(
        self, owner: Owner, photo_id: str, *, audit: AuditEntry | None = None
    ) -> Photo:
        """Delete a photo: cancel it if it is open, remove its tags and its object.

        The object is removed as by `change_photos`, thumbnails included. Return the photo as it
        was. A repeat is `NotFound`. The job keeps it in its counts.
        """
        ...

    async def assign_node(self, owner: Owner, photo_id: str, node_id: str) -> Photo:
        """Let a photo that takes bytes become another node, of an upload that has begun for it.

        The photo is UPLOADING afterwards, if it was QUEUED. Its object lies beside the former one,
        under the id of the node (rule 14). A repeat has no effect. Return the photo. Raise
        `FailedPrecondition` PHOTO_ENDED.
        """
        ...

    async def keep_awaiting(self, photo_id: str, attempt: int) -> None:
        """Record that the client of an attempt gets URLs now. No change of the photo.

        Raise `FailedPrecondition` PHOTO_ENDED as `set_multipart`. Excludes the changes of the
        photo: one with `asked_before` comes first, or has no effect.
        """
        ...

    async def set_multipart(self, photo_id: str, attempt: int, multipart_id: str) -> str:
        """Record the store's multipart of an attempt; return the recorded one.

        Of two callers the first one's stays, and the other aborts its own. Raise
        `FailedPrecondition` PHOTO_ENDED for a photo or attempt that takes no parts any more.
        """
        ...

    async def record_upload_parts(
        self, photo_id: str, attempt: int, parts: Sequence[UploadPart]
    ) -> None:
        """Add parts that the store has of an open attempt, in place of those of the same numbers.

        Raise `FailedPrecondition` PHOTO_ENDED as `set_multipart`. They are forgotten when the
        upload of the attempt is over.
        """
        ...

    async def recorded_bytes(self, photo_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the bytes of the recorded parts by photo; photos without parts are missing."""
        ...
