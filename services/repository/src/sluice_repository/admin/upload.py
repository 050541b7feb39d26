"""`admin upload`: write the story of one upload."""

from __future__ import annotations

from sluice_core.ports.inspection import InspectedPart, InspectedUpload, Lease, PartState
from sluice_core.uploads.states import TAKES_CHUNKS
from sluice_repository.admin.advice import advise
from sluice_repository.admin.backends import AdminBackends
from sluice_repository.admin.report import Fact, Report, checksum, moment
from sluice_repository.admin.story import Story, tell


async def show_upload(
    backends: AdminBackends, report: Report, upload_id: str, *, all_parts: bool
) -> bool:
    """Write the story; return whether a backend knows the upload, and all of them answered.

    Args:
        all_parts: list stored parts too, of which there may be 10,000.
    """
    story = await tell(backends, upload_id)
    upload = story.upload
    if upload is not None:
        _show_record(report, upload)
        _show_parts(report, story, all_parts=all_parts)
        _show_bytes(report, story)
    _show_catalogue(report, story)
    for backend, reason in story.failures.items():
        report.result("unanswered", {"backend": backend, "reason": reason})
    advice = advise(story)
    see = f" See docs/runbooks/{advice.runbook}.md." if advice.runbook else ""
    report.result(
        "advice", {"text": advice.text, "runbook": advice.runbook}, f"\u2192 {advice.text}{see}"
    )
    return (upload is not None or story.node is not None) and not story.failures


def _show_record(report: Report, upload: InspectedUpload) -> None:
    snapshot = upload.snapshot
    new = snapshot.new
    report.result(
        "upload",
        {
            "upload_id": new.upload_id,
            "state": snapshot.status,
            "tenant": new.tenant,
            "subject": new.subject,
            "drive": new.drive,
            "path": new.path,
            "node_id": new.node_id,
            "content_type": new.content_type,
            "expected_size": new.expected_size,
            "chunk_size": new.chunk_size,
            "part_bytes": new.part_bytes,
            "failure_reason": snapshot.failure_reason,
            "failure_detail": snapshot.failure_detail,
        },
    )
    report.result(
        "times",
        {
            "now": moment(upload.now),
            "created": moment(snapshot.created_at),
            "updated": moment(snapshot.updated_at),
            "completing": moment(snapshot.completing_at),
            "ended": moment(snapshot.ended_at),
            "expires": moment(snapshot.expires_at) if snapshot.status in TAKES_CHUNKS else None,
            "next_cleanup": moment(upload.next_cleanup_at),
            "cleanups_done": upload.cleanups_done,
        },
    )
    report.result(
        "chunks",
        {
            "received": snapshot.received_chunks,
            "received_bytes": snapshot.received_bytes,
            "total": snapshot.total_chunks,
            "first_missing": _first_missing(upload),
            "rejected": upload.rejected_chunks,
            "queued_bytes": upload.queued_bytes,
            "stored_bytes": snapshot.stored_bytes,
            "stored_below": snapshot.stored_watermark,
            "crc32c": checksum(snapshot.crc32c),
            "sha256": snapshot.sha256.hex() if snapshot.sha256 else None,
        },
    )


def _first_missing(upload: InspectedUpload) -> int | None:
    needed = upload.snapshot.needed_number
    return None if needed == upload.snapshot.total_chunks else needed


def _show_parts(report: Report, story: Story, *, all_parts: bool) -> None:
    assert story.upload is not None
    parts, now = story.parts, story.upload.now
    report.result(
        "parts",
        {
            "stored": parts.stored,
            "stored_up_to": story.upload.snapshot.stored_parts,
            "leased": len(parts.leased),
            "waiting": parts.waiting,
            "filling": parts.filling,
            "multipart_id": story.upload.snapshot.multipart_id,
        },
    )
    for part in parts.listed:
        if all_parts or part.state is not PartState.STORED:
            report.result("part", _part_facts(part, now))
    if story.upload.completion_lease is not None:
        report.result("completion", _lease_facts(story.upload.completion_lease, now))


def _part_facts(part: InspectedPart, now: float) -> dict[str, Fact]:
    facts: dict[str, Fact] = {
        "number": part.number,
        "state": part.state,
        "chunks": f"{part.first_chunk}-{part.last_chunk}",
        "received": part.received_chunks,
        "bytes": part.size,
        "etag": part.etag,
        "crc32c": checksum(part.crc32c),
    }
    # The hold of a stored part says nothing any more.
    if part.lease is None or part.state is PartState.STORED:
        return facts
    return facts | _lease_facts(part.lease, now)


def _lease_facts(lease: Lease, now: float) -> dict[str, Fact]:
    return {
        "holder": lease.holder,
        "fence": lease.counter,
        "lease_until": moment(lease.until),
        "lease_runs": lease.until > now,
    }


def _show_bytes(report: Report, story: Story) -> None:
    assert story.upload is not None
    staged = story.staged
    if staged is not None:
        report.result(
            "staged",
            {
                "chunks_read": staged.chunks,
                "bytes_read": staged.bytes,
                "lost": ",".join(map(str, staged.lost)),
                "all_read": staged.is_complete,
            },
        )
    if story.queue is not None:
        report.result(
            "queue",
            {
                "items_of_all_uploads": story.queue.items,
                "oldest_seconds": round(story.queue.oldest_age_seconds, 1),
            },
        )
    ref, found = story.upload.snapshot.new.object, story.object
    report.result(
        "object",
        {
            "bucket": ref.bucket,
            "key": ref.key,
            "exists": found is not None,
            "size": None if found is None else found.size,
            "etag": None if found is None else found.etag,
            "crc32c": None if found is None else checksum(found.crc32c),
            "open_multiparts": ",".join(story.multiparts),
        },
    )


def _show_catalogue(report: Report, story: Story) -> None:
    node = story.node
    if node is not None:
        report.result(
            "node",
            {
                "node_id": node.node_id,
                "state": node.state,
                "tenant": node.tenant,
                "drive": node.drive,
                "path": node.path,
                "size": node.size,
                "crc32c": checksum(node.crc32c),
                "version": node.version,
                "created": moment(node.created_at),
                "updated": moment(node.updated_at),
                "processing": node.processing,
                "processing_reason": node.processing_reason,
            },
        )
    withheld_until = 0.0 if story.upload is None else story.upload.events_withheld_until
    for event in story.ledger_events:
        report.result(
            "event",
            {
                "in": "ledger",
                "type": event.type,
                "event_id": event.event_id,
                "occurred": moment(event.occurred_at),
                "withheld": bool(withheld_until),
                "next_attempt": moment(withheld_until) if withheld_until else None,
            },
        )
    for each in story.outbox:
        report.result(
            "event",
            {
                "in": "outbox",
                "type": each.row.event.type,
                "event_id": each.row.event.event_id,
                "occurred": moment(each.row.event.occurred_at),
                "withheld": each.withheld,
                "topic": each.row.event.topic,
            },
        )
