"""Discovery of ready work, expiry, clean-up (rules 9, 15, 24, 25) and unpublished events (22)."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_core.events import uploads as events
from sluice_core.ledger import fences, lifecycle, refusals
from sluice_core.ledger.record import COMPLETION_HOLD, UploadRecord
from sluice_core.ledger.store import Session
from sluice_core.ports import Backlog, LedgerEvent, WorkItem, WorkKind
from sluice_core.uploads.model import NewUpload, UploadSnapshot, UploadStatus
from sluice_core.uploads.states import check_transition

CLEANUPS = 2
"""Clean-ups per upload: at once, and again for requests in flight at its end (rule 25)."""

RETRIED_UPLOADS = 50
"""Uploads with withheld events that one call retries."""

_PAGE = 200
_CLEAR_ROWS = 10_000


def ping(s: Session) -> None:
    """Raise when the storage is not writable."""
    s.store.touch()


def ready_parts(s: Session, limit: int) -> Sequence[WorkItem]:
    """Return ready parts without a lease, oldest upload first."""
    now = s.clock()
    items: list[WorkItem] = []
    after: tuple[float, str] | None = None
    while len(items) < limit:
        page = s.store.with_ready_parts(_PAGE, after)
        for upload_id in page:
            record = s.require(upload_id)
            after = (record.created_at, upload_id)
            items += [
                WorkItem(WorkKind.PART, upload_id, record.new.tenant, number)
                for number in s.store.ready_parts(upload_id)
                if not fences.is_held(record, number, now)
            ]
        if len(page) < _PAGE:
            break
    return items[:limit]


def ready_completions(s: Session, limit: int) -> Sequence[WorkItem]:
    """Return ready completions without a lease, oldest upload first."""
    now = s.clock()
    items: list[WorkItem] = []
    after: tuple[float, str] | None = None
    while len(items) < limit:
        page = s.store.completing(_PAGE, after)
        for upload_id in page:
            record = s.require(upload_id)
            after = (record.created_at, upload_id)
            if record.completion_ready and not fences.is_held(record, COMPLETION_HOLD, now):
                items.append(WorkItem(WorkKind.COMPLETION, upload_id, record.new.tenant))
        if len(page) < _PAGE:
            break
    return items[:limit]


def expire_due(s: Session, limit: int) -> Sequence[UploadSnapshot]:
    """Expire uploads found due a second time, a grace period after the first (rule 24)."""
    now, options = s.clock(), s.options
    due = list(
        s.store.expirable(
            now - options.idle_lifetime_seconds, now - options.total_lifetime_seconds, limit
        )
    )
    if s.budget.is_full(now):
        idle_since = now - options.pressure_idle_seconds
        due += _idle_holders(s, idle_since, limit - len(due))
    ended: list[UploadSnapshot] = []
    for upload_id in dict.fromkeys(due):
        record = s.require(upload_id)
        if record.expiry_seen_at is None or now < record.expiry_seen_at:
            record.expiry_seen_at = now
            s.store.save(record)
        elif now - record.expiry_seen_at >= options.expiry_grace_seconds:
            _expire(s, record, now)
            ended.append(s.snapshot(record))
    return ended


def cleanups_due(s: Session, limit: int, offset: int) -> Sequence[UploadSnapshot]:
    """Return ended uploads that are due for clean-up."""
    return [s.snapshot(s.require(i)) for i in s.store.cleanups_due(s.clock(), limit, offset)]


def cleanup_done(s: Session, upload_id: str) -> None:
    """Record a finished clean-up; a repeated call for one due clean-up counts once."""
    record = s.require(upload_id)
    now = s.clock()
    if not record.ended:
        raise refusals.upload_not_ended()
    if record.next_cleanup_at is None or now < record.next_cleanup_at:
        return
    record.cleanups_done += 1
    again = record.cleanups_done < CLEANUPS
    record.next_cleanup_at = now + s.options.cleanup_again_seconds if again else None
    s.store.save(record)


def purge_due(s: Session, limit: int) -> int:
    """Purge uploads that ended long ago, are cleaned up and have no events (rule 24)."""
    ids = s.store.purgeable(s.clock() - s.options.forget_after_seconds, limit)
    for upload_id in ids:
        s.store.purge(upload_id)
    return len(ids)


def clear_purged(s: Session) -> bool:
    """Remove rows that `purge_due` left, in one bounded step; False when none are left."""
    return s.store.clear_purged(_CLEAR_ROWS)


def known_tokens(s: Session, upload_id: str, tokens: Sequence[str]) -> frozenset[str]:
    """Return the tokens that a received chunk of a live upload or a reservation names.

    An unknown or ended upload names none: its remaining bytes may be dropped.
    """
    named = s.budget.reserved_tokens(frozenset(tokens), s.clock())
    record = s.store.upload(upload_id)
    if record is None or record.ended:
        return named
    return named | s.store.named_tokens(upload_id, tokens)


def pending_events(s: Session, limit: int) -> Sequence[LedgerEvent]:
    """Return unpublished events, in order per upload, oldest upload first.

    Withheld events that are due for a retry follow; they never displace others.
    """
    pending: list[LedgerEvent] = []
    for upload_id in s.store.with_events(limit):
        pending += s.store.events(upload_id)
        if len(pending) >= limit:
            break
    pending = pending[:limit]
    for upload_id in s.store.with_withheld_events(RETRIED_UPLOADS, s.clock()):
        pending += s.store.events(upload_id)
    return pending


def upload_events(s: Session, upload_id: str) -> Sequence[LedgerEvent]:
    """Return the unpublished events of one upload."""
    s.require(upload_id)
    return s.store.events(upload_id)


def events_published(s: Session, upload_id: str, up_to_sequence: int) -> None:
    """Delete events that the broker acknowledged."""
    record = s.require(upload_id)
    dropped = s.store.drop_events(upload_id, up_to_sequence)
    if dropped:
        record.events_pending -= dropped
        record.events_retry_at = 0.0
        s.store.save(record)


def withhold_events(s: Session, upload_id: str, seconds: float) -> None:
    """Withhold the upload's events from `pending_events` for a while. No snapshot shows it."""
    record = s.require(upload_id)
    record.events_retry_at = s.clock() + seconds
    s.store.save(record)


def backlog(s: Session) -> Backlog:
    """Return the fill level of the chunk store."""
    s.budget.expire_reservations(s.clock())
    return Backlog(
        s.budget.queued_bytes,
        s.budget.reserved_bytes,
        s.options.budget_bytes,
        s.store.count_open(),
    )


def behind(s: Session, limit: int) -> Sequence[str]:
    """Return uploads with a bounded step left to do after a crash between two steps."""
    return s.store.behind(limit)


def _idle_holders(s: Session, since: float, limit: int) -> list[str]:
    """Return uploads that hold bytes and received no chunk since.

    Uploads refused meanwhile sent nothing because of the pressure itself: they are skipped, and
    do not use up the limit.
    """
    page_limit = limit
    while page_limit > 0:
        page = s.store.idle_holders(since, page_limit)
        idle = [upload_id for upload_id in page if not s.budget.was_refused_since(upload_id, since)]
        if len(idle) >= limit or len(page) < page_limit:
            return idle[:limit]
        page_limit *= 2
    return []


def _expire(s: Session, record: UploadRecord, now: float) -> None:
    check_transition(record.status, UploadStatus.EXPIRED)
    if now - record.created_at >= s.options.total_lifetime_seconds:
        reason = "TOTAL"
    elif now - record.last_chunk_at >= s.options.idle_lifetime_seconds:
        reason = "IDLE"
    else:
        reason = "PRESSURE"
    record.failure_reason = reason

    def event(new: NewUpload, sequence: int, at: float) -> LedgerEvent:
        return events.upload_expired(new, sequence, at, reason=reason)

    lifecycle.end(s, record, UploadStatus.EXPIRED, event)
