"""State machine of an upload. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sluice_core.errors import FailedPrecondition, Internal
from sluice_core.uploads.model import UploadStatus

_S = UploadStatus

#   PENDING ──▶ UPLOADING ──▶ COMPLETING ──▶ COMPLETED
#      │            │  ◀──rule 8──┘  └─────▶ FAILED
#      └────────────┴──▶ FAILED · ABORTED · EXPIRED
#
# PENDING goes to COMPLETING for an empty object, which has no chunk. COMPLETING never expires and
# cannot be aborted (docs/protocol.md, rule 18); it goes back to UPLOADING when bytes turn out to be
# damaged (rule 8).
TRANSITIONS: Mapping[UploadStatus, frozenset[UploadStatus]] = MappingProxyType(
    {
        _S.PENDING: frozenset({_S.UPLOADING, _S.COMPLETING, _S.FAILED, _S.ABORTED, _S.EXPIRED}),
        _S.UPLOADING: frozenset({_S.COMPLETING, _S.FAILED, _S.ABORTED, _S.EXPIRED}),
        _S.COMPLETING: frozenset({_S.UPLOADING, _S.COMPLETED, _S.FAILED}),
        _S.COMPLETED: frozenset(),
        _S.FAILED: frozenset(),
        _S.ABORTED: frozenset(),
        _S.EXPIRED: frozenset(),
    }
)

TERMINAL = frozenset(status for status, after in TRANSITIONS.items() if not after)
"""Final states."""

TAKES_CHUNKS = frozenset({_S.PENDING, _S.UPLOADING})
"""States that accept new chunks, and in which an upload may expire."""


def is_terminal(status: UploadStatus) -> bool:
    """Return whether the state is final."""
    return status in TERMINAL


def upload_ended(status: UploadStatus) -> FailedPrecondition:
    """Return the error for a change of an upload in a terminal state."""
    return FailedPrecondition(
        "UPLOAD_ENDED",
        f"The upload is {status.value} and cannot change any more; start a new upload.",
        metadata={"status": status.value},
    )


def upload_completing() -> FailedPrecondition:
    """Return the error for a change that has to wait for the end of the completion."""
    return FailedPrecondition(
        "UPLOAD_COMPLETING",
        "The upload is being completed; wait until it is COMPLETED or FAILED.",
    )


def check_transition(current: UploadStatus, target: UploadStatus) -> None:
    """Raise an error unless an upload in `current` may go to `target`.

    Raise `FailedPrecondition` UPLOAD_ENDED (terminal states are final) or UPLOAD_COMPLETING (the
    completion has to end first), and `Internal` ILLEGAL_TRANSITION for a defect: no request can
    cause this transition.
    """
    if target in TRANSITIONS[current]:
        return
    if current in TERMINAL:
        raise upload_ended(current)
    if current is _S.COMPLETING and target in (_S.ABORTED, _S.EXPIRED, _S.COMPLETING):
        raise upload_completing()
    raise Internal("ILLEGAL_TRANSITION", f"No upload goes from {current.value} to {target.value}.")
