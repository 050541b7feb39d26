"""What may follow what: the one transition table of an upload. Pure.

    PENDING ──▶ UPLOADING ──▶ COMPLETING ──▶ COMPLETED
       │            │  ◀──rule 8──┘  └─────▶ FAILED
       └────────────┴──▶ FAILED · ABORTED · EXPIRED

PENDING may go to COMPLETING at once (an empty object has no chunk). COMPLETING never expires and
cannot be aborted (docs/protocol.md, rule 18); it goes back to UPLOADING when bytes turn out to be
damaged (rule 8). Terminal states are final.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sluice_core.errors import FailedPrecondition, Internal
from sluice_core.uploads.model import UploadStatus

_S = UploadStatus

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
"""States that nothing follows."""

TAKES_CHUNKS = frozenset({_S.PENDING, _S.UPLOADING})
"""States in which a new chunk is welcome, and in which an upload may expire."""


def is_terminal(status: UploadStatus) -> bool:
    """True when nothing can follow this state."""
    return status in TERMINAL


def upload_ended(status: UploadStatus) -> FailedPrecondition:
    """Terminal states are final."""
    return FailedPrecondition(
        "UPLOAD_ENDED",
        f"The upload is {status.value} and cannot change any more; start a new upload.",
        metadata={"status": status.value},
    )


def upload_completing() -> FailedPrecondition:
    """The completion has to end first."""
    return FailedPrecondition(
        "UPLOAD_COMPLETING",
        "The upload is being completed; wait until it is COMPLETED or FAILED.",
    )


def check_transition(current: UploadStatus, target: UploadStatus) -> None:
    """Raise unless an upload in `current` may go to `target`.

    Raises:
        FailedPrecondition: UPLOAD_ENDED (terminal states are final), UPLOAD_COMPLETING (the
            completion has to end first).
        Internal: ILLEGAL_TRANSITION, a defect of ours: no request can ask for this step.
    """
    if target in TRANSITIONS[current]:
        return
    if current in TERMINAL:
        raise upload_ended(current)
    if current is _S.COMPLETING and target in (_S.ABORTED, _S.EXPIRED, _S.COMPLETING):
        raise upload_completing()
    raise Internal("ILLEGAL_TRANSITION", f"No upload goes from {current.value} to {target.value}.")
