"""State machine of a photo. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from sluice_core.errors import FailedPrecondition


class PhotoStatus(StrEnum):
    QUEUED = "QUEUED"
    """Announced by its job; no byte of it is known to be under way."""
    UPLOADING = "UPLOADING"
    PROCESSING = "PROCESSING"
    """Its object is in the store."""
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Reopening(StrEnum):
    """What gives a FAILED photo another attempt: two commands, and its late object."""

    RETRY = "retry"
    """Upload it again: its object never arrived."""
    REPROCESS = "reprocess"
    """Process its object again."""
    ARRIVED = "arrived"
    """Its object is there after all."""


_S = PhotoStatus

#   QUEUED ──▶ UPLOADING ──▶ PROCESSING ──▶ COMPLETED
#     │            │             │
#     └────────────┴─────────────┴──▶ FAILED · CANCELLED
TRANSITIONS: Mapping[PhotoStatus, frozenset[PhotoStatus]] = MappingProxyType(
    {
        _S.QUEUED: frozenset({_S.UPLOADING, _S.FAILED, _S.CANCELLED}),
        _S.UPLOADING: frozenset({_S.PROCESSING, _S.FAILED, _S.CANCELLED}),
        _S.PROCESSING: frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED}),
        _S.COMPLETED: frozenset(),
        _S.FAILED: frozenset(),
        _S.CANCELLED: frozenset(),
    }
)

TERMINAL = frozenset(status for status, after in TRANSITIONS.items() if not after)
"""Final states of an attempt."""

TAKES_PARTS = frozenset({_S.QUEUED, _S.UPLOADING})
"""States in which the upload of an attempt is open."""

REOPENED: Mapping[Reopening, PhotoStatus] = MappingProxyType(
    {
        Reopening.RETRY: _S.QUEUED,
        Reopening.REPROCESS: _S.PROCESSING,
        Reopening.ARRIVED: _S.PROCESSING,
    }
)
"""Where the next attempt of a FAILED photo begins."""

NOT_ARRIVED: Final = "NOT_ARRIVED"
"""Reason of a photo whose object did not arrive in time."""
UPLOAD_EXPIRED: Final = "UPLOAD_EXPIRED"
"""Reason of a photo whose multipart was removed before it was whole."""
UNARRIVED: Final = frozenset({NOT_ARRIVED, UPLOAD_EXPIRED})
"""Reasons that the photo's object refutes when it arrives afterwards."""

_ORDER = (_S.QUEUED, _S.UPLOADING, _S.PROCESSING, _S.COMPLETED)


def is_terminal(status: PhotoStatus) -> bool:
    """Return whether the state is final."""
    return status in TERMINAL


def steps_to(current: PhotoStatus, target: PhotoStatus) -> tuple[PhotoStatus, ...]:
    """Return the states that a photo enters on its way to `target`, with `target` as the last.

    Sources have no common order: the result of the processor can arrive before any news of the
    upload. The photo then passes through the states between, so that each of its events is a
    transition of the table. Return nothing if `current` is at `target` or cannot reach it.
    """
    if current is target or is_terminal(current):
        return ()
    if target in TRANSITIONS[current]:
        return (target,)
    if target in _ORDER and _ORDER.index(target) > _ORDER.index(current):
        return _ORDER[_ORDER.index(current) + 1 : _ORDER.index(target) + 1]
    return ()


def photo_ended(status: PhotoStatus) -> FailedPrecondition:
    """Return the error for a command that needs an open photo."""
    rest = (
        "retry it, or process it again if it had arrived"
        if status is PhotoStatus.FAILED
        else "it cannot change any more; create a new upload job"
    )
    return FailedPrecondition(
        "PHOTO_ENDED",
        f"The photo is {status.value}: {rest}.",
        metadata={"status": status.value},
    )
