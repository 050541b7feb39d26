"""What becomes of a photo, given its node as the catalogue has it now. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sluice_core.catalogue.processing import Processing, ProcessingState
from sluice_core.photos.changes import PhotoChange
from sluice_core.photos.model import Photo
from sluice_core.photos.states import UNARRIVED, PhotoStatus, is_terminal
from sluice_gateway.projection.news import NewsKind, NodeNews

NODE_DELETED: Final = "NODE_DELETED"
"""Reason of a photo whose node was deleted before it was processed."""

_HAS_NODE: Final = frozenset({PhotoStatus.PROCESSING, PhotoStatus.COMPLETED})


@dataclass(frozen=True, slots=True)
class NodeState:
    """A node in the catalogue. `processing` is the result of its present content, if any."""

    is_live: bool
    processing: Processing | None = None


def change_of(
    photo: Photo, node: NodeState, news: NodeNews, *, trust_former: bool = False
) -> PhotoChange | None:
    """Return the change of a photo, None if there is none.

    News only say which node to look at. So their order and their number do not matter: whichever
    come last lead to the state that the catalogue has.

    Args:
        trust_former: take a failure of a former attempt for one of this attempt. An object that
            fails in the same way again has no further event.
    """
    if is_terminal(photo.status):
        return None
    target, reason, detail, taken_at = photo.status, "", "", None
    if node.is_live:
        target = PhotoStatus.PROCESSING
        result = node.processing
        if result is not None and result.state is ProcessingState.PROCESSED:
            target, taken_at = PhotoStatus.COMPLETED, taken_at_of(result)
        elif (
            result is not None
            and result.state is ProcessingState.FAILED
            and (trust_former or not _is_of_former_attempt(photo, result.processed_at))
        ):
            target, reason, detail = PhotoStatus.FAILED, result.reason, result.detail
    elif news.kind is NewsKind.COMMITTED or photo.status in _HAS_NODE:
        target, reason = PhotoStatus.FAILED, NODE_DELETED
        detail = "The object was deleted before it was processed."
    elif news.kind is NewsKind.STARTED:
        target = PhotoStatus.UPLOADING
    elif news.kind is NewsKind.FAILED and not _is_of_former_attempt(photo, news.occurred_at):
        target, reason, detail = PhotoStatus.FAILED, news.reason, news.detail
    elif news.kind is NewsKind.ABORTED and not _is_of_former_attempt(photo, news.occurred_at):
        target = PhotoStatus.CANCELLED
    if target is photo.status:
        return None
    return PhotoChange(
        photo.photo_id,
        target,
        photo.attempt,
        reason=reason,
        detail=detail,
        taken_at=taken_at,
        trace_parent=news.trace_parent,
    )


def must_delete_node(photo: Photo) -> bool:
    """Return whether the photo may have no node: its owner does not want it any more."""
    return photo.status is PhotoStatus.CANCELLED or photo.deleted_at is not None


def has_lost_node(photo: Photo, node: NodeState) -> bool:
    """Return whether somebody deleted the object of a whole photo by another way than this API."""
    return photo.status is PhotoStatus.COMPLETED and photo.deleted_at is None and not node.is_live


def has_arrived_late(photo: Photo, node: NodeState) -> bool:
    """Return whether a photo FAILED because its object was missing, which is there now."""
    return (
        photo.status is PhotoStatus.FAILED
        and photo.reason in UNARRIVED
        and photo.deleted_at is None
        and node.is_live
    )


def taken_at_of(result: Processing) -> float | None:
    """Return when a picture was taken, in Unix seconds, as its EXIF says.

    Cameras that know no time zone write local time; it counts as UTC.
    """
    written = result.exif.get("taken_at")
    if not isinstance(written, str):
        return None
    try:
        moment = datetime.fromisoformat(written)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _is_of_former_attempt(photo: Photo, happened_at: float) -> bool:
    """Return whether something happened before the present attempt began.

    Clocks of two machines are compared. News that a skew hides is found by the sweeper.
    """
    return photo.attempt > 1 and happened_at < photo.attempt_started_at
