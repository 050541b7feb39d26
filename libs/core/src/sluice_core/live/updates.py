"""Updates of photos and jobs, and which of two updates is the newer state."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

MAX_FIELD_CHARS: Final = 128
UPLOADING: Final = "UPLOADING"
BEFORE_THE_END_OF_THE_UPLOAD: Final = frozenset({"QUEUED", UPLOADING})
"""Statuses in which bytes may still arrive: progress applies to no other."""

_BYTES_ARE_THERE: Final = frozenset({"PROCESSING", "COMPLETED"})
_JOB_ENDS: Final = frozenset({"COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED", "CANCELLED"})
_FIELD: Final = re.compile(r"[^\x00-\x1f\x7f]*")


@dataclass(frozen=True, slots=True)
class Audience:
    """The user who hears of an update: the owner of the job."""

    tenant: str
    subject: str


@dataclass(frozen=True, slots=True)
class Update:
    """The state of a photo, or of a job when `photo_id` is empty.

    An update replaces all earlier ones of the same photo: it is a state, not a step, so a reader
    that missed some needs the newest one only.

    Args:
        version: number of the row's change in the catalogue. An update that arrives after a newer
            one, from another replica, is recognized by it.
        bytes_sent, bytes_total: of a job, the sums over its photos.
        reason: stable word that says why a photo failed; otherwise empty.
    """

    job_id: str
    photo_id: str
    status: str
    bytes_sent: int
    bytes_total: int
    version: int
    reason: str = ""

    def __post_init__(self) -> None:
        check_fields(self.job_id, self.photo_id, self.status, self.reason)
        if not self.job_id or not self.status:
            raise ValueError("an update names its job and a status")
        if not self.bytes_sent >= 0 or self.bytes_total < 0 or self.version < 0:
            raise ValueError("sizes and versions start at 0")

    @property
    def key(self) -> str:
        """What the update is about: later updates with this key replace it."""
        return self.photo_id or self.job_id

    @property
    def progress(self) -> int:
        """Percent of the bytes sent.

        100 of a photo only once all of them are in the store, and of a job only at its end, however
        it ended: as `shown_percent` and `job_percent`.
        """
        if self.status in (_BYTES_ARE_THERE if self.photo_id else _JOB_ENDS):
            return 100
        if self.bytes_total == 0:
            return 0
        return min(99, 100 * self.bytes_sent // self.bytes_total)


@dataclass(frozen=True, slots=True)
class ProgressTick:
    """What a client says it has sent of a photo so far. Best effort: it may be lost or wrong."""

    job_id: str
    photo_id: str
    bytes_sent: int
    bytes_total: int

    def __post_init__(self) -> None:
        check_fields(self.job_id, self.photo_id)
        if not self.job_id or not self.photo_id:
            raise ValueError("a tick names its job and its photo")
        if not 0 <= self.bytes_sent <= self.bytes_total:
            raise ValueError("a tick has 0 <= bytes sent <= bytes in total")


def check_fields(*fields: str) -> None:
    """Raise `ValueError` for a field that is too long or has control characters.

    Backends separate fields by control characters, and the length bounds their memory.
    """
    for field in fields:
        if len(field) > MAX_FIELD_CHARS or _FIELD.fullmatch(field) is None:
            raise ValueError(f"a field has at most {MAX_FIELD_CHARS} characters, none of control")


def merge_update(known: Update | None, update: Update) -> Update | None:
    """Return the state after an update; None if the update is not newer than what is known.

    The catalogue does not store progress. So a change before the end of the upload keeps what ticks
    have shown, or a photo would fall back from UPLOADING and its bar to the beginning.
    """
    if known is None:
        return update
    if update.version <= known.version:
        return None
    started = BEFORE_THE_END_OF_THE_UPLOAD
    if known.photo_id and known.status in started and update.status in started:
        sent = min(max(update.bytes_sent, known.bytes_sent), update.bytes_total)
        status = UPLOADING if known.status == UPLOADING else update.status
        return replace(update, status=status, bytes_sent=sent)
    return update


def merge_tick(known: Update | None, tick: ProgressTick) -> Update | None:
    """Return the state after a tick; None if it changes nothing.

    Progress never goes back, never exceeds the size in the catalogue, and never touches a photo
    whose upload has ended.
    """
    if known is None:
        return Update(
            tick.job_id, tick.photo_id, UPLOADING, tick.bytes_sent, tick.bytes_total, version=0
        )
    if known.status not in BEFORE_THE_END_OF_THE_UPLOAD:
        return None
    total = known.bytes_total or tick.bytes_total
    sent = min(tick.bytes_sent, total)
    if sent <= known.bytes_sent and known.status == UPLOADING:
        return None
    sent = max(sent, known.bytes_sent)
    return replace(known, status=UPLOADING, bytes_sent=sent, bytes_total=total)
