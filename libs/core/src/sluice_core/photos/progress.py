"""Progress of a photo and of a job. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sluice_core.errors import InvalidArgument
from sluice_core.photos.states import PhotoStatus

_ALMOST = 99


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of a photo that its client has sent: 0 ≤ `bytes_sent` ≤ `bytes_total`, total > 0."""

    bytes_sent: int
    bytes_total: int

    def __post_init__(self) -> None:
        if not 0 <= self.bytes_sent <= self.bytes_total or self.bytes_total < 1:
            raise ValueError("progress outside of 0 and its total")

    @property
    def percent(self) -> int:
        """Percentage, rounded down: 100 only when every byte was sent."""
        return 100 * self.bytes_sent // self.bytes_total


def accept_tick(
    known: Progress, bytes_sent: int, bytes_total: int, field: str = "bytesSent"
) -> Progress:
    """Return the progress after a report of the client; `known` if it brings no news.

    Reports overtake each other, so an older one changes nothing and progress never goes back. Raise
    `InvalidArgument` BAD_PROGRESS for bytes below 0 or beyond the photo's size, and for another
    total.
    """
    if bytes_total != known.bytes_total:
        raise InvalidArgument(
            "BAD_PROGRESS",
            f"The photo has {known.bytes_total} bytes; report this total.",
            field="bytesTotal",
        )
    if not 0 <= bytes_sent <= known.bytes_total:
        raise InvalidArgument(
            "BAD_PROGRESS", f"Report 0 to {known.bytes_total} bytes as sent.", field=field
        )
    return known if bytes_sent <= known.bytes_sent else Progress(bytes_sent, bytes_total)


def shown_percent(status: PhotoStatus, progress: Progress) -> int:
    """Return the percentage to show for a photo in this state.

    Clients count bytes that they handed to their network stack, so 100 is kept for an object that
    is in the store. A photo that ended without one keeps what it had reached.
    """
    match status:
        case PhotoStatus.QUEUED:
            return 0
        case PhotoStatus.PROCESSING | PhotoStatus.COMPLETED:
            return 100
        case _:
            return min(progress.percent, _ALMOST)


def job_percent(photos: Iterable[tuple[PhotoStatus, Progress]]) -> int:
    """Return the percentage of a job by bytes, rounded down; 100 without photos.

    An ended photo counts as done, however it ended, so that an ended job shows 100. All objects of
    an open job may be in the store; it shows 99 until they are processed.
    """
    done = total = 0
    is_open = False
    for status, progress in photos:
        total += progress.bytes_total
        match status:
            case PhotoStatus.QUEUED:
                is_open = True
            case PhotoStatus.UPLOADING:
                is_open = True
                done += progress.bytes_sent
            case PhotoStatus.PROCESSING:
                is_open = True
                done += progress.bytes_total
            case _:
                done += progress.bytes_total
    percent = 100 * done // total if total else 100
    return min(percent, _ALMOST) if is_open else percent
