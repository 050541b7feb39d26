"""What an upload waits for, in one sentence. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from sluice_core.ports.inspection import InspectedPart, NodeState
from sluice_core.uploads.ids import nonce_of
from sluice_core.uploads.model import UploadStatus
from sluice_repository.admin.report import moment
from sluice_repository.admin.story import Story

_OVERDUE_SECONDS = 300.0
"""A sweeper passes every 10 s by default; this long after its time, a clean-up is late."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One sentence, and the runbook (docs/runbooks) that mends it; empty when nothing is wrong."""

    text: str
    runbook: str = ""


def advise(story: Story) -> Advice:
    """Return what the upload waits for and what to do."""
    if story.failures:
        return _incomplete(story)
    if story.upload is None:
        return _unknown(story)
    match story.upload.snapshot.status:
        case UploadStatus.PENDING | UploadStatus.UPLOADING:
            return _open(story)
        case UploadStatus.COMPLETING:
            return _completing(story)
        case UploadStatus.COMPLETED:
            return _completed(story)
        case UploadStatus.FAILED | UploadStatus.ABORTED | UploadStatus.EXPIRED:
            return _ended(story)


def _incomplete(story: Story) -> Advice:
    away = ", ".join(sorted(story.away))
    refused = ", ".join(sorted(story.failures.keys() - story.away))
    why = [f"these did not answer: {away}"] if away else []
    why += [f"these could not be read: {refused}"] if refused else []
    return Advice(
        f"The story is incomplete, because {' and '.join(why)}; mend that first.",
        "target-down" if away else "",
    )


def _sweep(story: Story, what: str) -> str:
    """Return the advice to repeat hints now. A server in a data directory has its queue to itself,
    and does so alone."""
    return f"{'its running server' if story.has_sweeper else '`admin sweep`'} {what}"


def _unknown(story: Story) -> Advice:
    if story.node is not None:
        return _completed(story)
    if nonce_of(story.upload_id) not in (story.nonce, "direct"):
        return Advice(
            f"This ledger did not give this id (its own ids begin with {story.nonce}-): it is"
            " mistyped, or the ledger was emptied or replaced since, or the settings name another"
            " one; in the last two cases the client begins anew.",
            "redis-emptied",
        )
    return Advice(
        "The ledger does not know this id: it is purged 24 h after its end, or was never given out;"
        " a completed upload is found by its path (`sluice stat`)."
    )


def _open(story: Story) -> Advice:
    upload = story.upload
    assert upload is not None
    if story.parts.waiting:
        return _for_workers(story)
    snapshot = upload.snapshot
    again = " again, because its bytes were damaged or lost" if upload.rejected_chunks else ""
    if snapshot.total_chunks is not None and snapshot.needed_number >= snapshot.total_chunks:
        wants = "request to complete it: all chunks are here"
    else:
        wants = f"chunk {snapshot.needed_number}{again}"
    return Advice(
        f"It waits for its client's {wants}; without it, it expires at"
        f" {moment(snapshot.expires_at)}."
    )


def _completing(story: Story) -> Advice:
    upload = story.upload
    assert upload is not None
    if story.node is not None and story.node.state is NodeState.LIVE:
        return Advice(
            "Its node is committed, and its worker ended before the ledger knew: the next worker"
            f" takes the completion over; {_sweep(story, 'hints at it')}.",
            "completion-budget",
        )
    if story.parts.waiting:
        return _for_workers(story)
    if story.parts.leased:
        return Advice(_being_stored(story.parts.leased[0]), "completion-budget")
    lease = upload.completion_lease
    if lease is not None and lease.until > upload.now:
        return Advice(
            f"{lease.holder} completes it: its lease ends at {moment(lease.until)} unless it renews"
            " it, and then another worker takes over.",
            "completion-budget",
        )
    return Advice(
        "Everything is stored, and it waits for a worker with the role completer: see that one"
        " runs; "
        f"{_sweep(story, 'repeats the hint at it')}.",
        "queue-old",
    )


def _for_workers(story: Story) -> Advice:
    if story.staged is not None and story.staged.lost:
        lost = ", ".join(map(str, story.staged.lost[:10]))
        return Advice(
            f"The bytes of these chunks are lost or damaged: {lost}; the worker of their part asks"
            " the client for them again, and without the client the upload expires.",
            "redis-emptied",
        )
    part = story.parts.first_waiting
    assert part is not None
    since = "" if part.lease is None else f" since {part.lease.holder} stopped renewing its lease"
    return Advice(
        f"{story.parts.waiting} parts, part {part.number} first, wait for a worker with the role"
        f" parts{since}: see that one runs; {_sweep(story, 'repeats the hints at them')}.",
        "queue-old",
    )


def _being_stored(part: InspectedPart) -> str:
    lease = part.lease
    assert lease is not None
    return (
        f"{lease.holder} stores part {part.number}: its lease ends at {moment(lease.until)} unless"
        " it renews it, and then another worker takes over."
    )


def _completed(story: Story) -> Advice:
    if story.has_catalogue and story.node is None:
        return Advice(
            "It is completed, and the catalogue lacks its node: was a database restored that is"
            " older than it?",
            "integrity-failure",
        )
    if story.upload is not None and story.object is None and _needs_object(story):
        return Advice(
            "It is completed, and its object is missing: restore the object from a copy.",
            "integrity-failure",
        )
    if (events := _events(story)) is not None:
        return events
    if story.node is not None and story.node.state is not NodeState.LIVE:
        return Advice(
            f"It was completed, and its node is {story.node.state} since: it waits for nothing."
        )
    return Advice("It is completed and published: it waits for nothing.")


def _needs_object(story: Story) -> bool:
    return story.keeps_objects and (story.node is None or story.node.state is NodeState.LIVE)


def _ended(story: Story) -> Advice:
    upload = story.upload
    assert upload is not None
    snapshot = upload.snapshot
    why = f" ({snapshot.failure_reason})" if snapshot.failure_reason else ""
    due = upload.next_cleanup_at
    if due is not None and due < upload.now - _OVERDUE_SECONDS:
        unless = "without a server, " if story.has_sweeper else ""
        return Advice(
            f"It is {snapshot.status}{why}, and its clean-up is overdue since {moment(due)}: see"
            f" that a sweeper runs; {unless}`admin sweep` does it now.",
            "sweeper-behind",
        )
    return _events(story) or Advice(
        f"It is {snapshot.status}{why}: it waits for nothing, and its client may begin anew."
    )


def _events(story: Story) -> Advice | None:
    upload = story.upload
    if any(row.withheld for row in story.outbox) or (
        upload is not None and upload.events_withheld_until
    ):
        return Advice(
            "It has ended, and its events are withheld, because the broker refuses one of them; see"
            " the log of the relay for the reason.",
            "events-withheld",
        )
    if story.outbox or story.ledger_events:
        return Advice(
            "It has ended, and its events wait for a repository with the role relay and for the"
            " broker.",
            "events-old",
        )
    return None
