"""Finding what is ready, due or left over (rules 9, 15, 24, 25), and the relay's side (22)."""

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
"""At once, and again for what was in flight at the end (rule 25)."""

RETRIED_AT_ONCE = 50
"""Uploads with withheld events that one call tries again."""

_PAGE = 200
_CLEAR_ROWS = 10_000


def ping(s: Session) -> None:
    """Raise when storage takes no writes."""
    s.store.touch()


def ready_parts(s: Session, limit: int) -> Sequence[WorkItem]:
    """Ready parts that nobody holds, oldest upload first."""
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
    """Completions that are ready and that nobody holds, oldest upload first."""
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
    """Expire on the second sighting, a grace period after the first (rule 24)."""
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
    """Ended uploads with leftovers to remove now."""
    return [s.snapshot(s.require(i)) for i in s.store.cleanups_due(s.clock(), limit, offset)]


def cleanup_done(s: Session, upload_id: str) -> None:
    """One clean-up is finished. Called twice for one due clean-up it counts once."""
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
    """Forget what ended long ago, was cleaned and has told the world (rule 24)."""
    ids = s.store.purgeable(s.clock() - s.options.forget_after_seconds, limit)
    for upload_id in ids:
        s.store.forget(upload_id)
    return len(ids)


def clear_forgotten(s: Session) -> bool:
    """One bounded step of removing what `purge_due` left; False when nothing is left."""
    return s.store.clear_forgotten(_CLEAR_ROWS)


def known_tokens(s: Session, upload_id: str, tokens: Sequence[str]) -> frozenset[str]:
    """Tokens that a received chunk of a live upload or a reservation names.

    An unknown or ended upload names nothing: whatever is left of it may go.
    """
    named = s.budget.reserved_tokens(frozenset(tokens), s.clock())
    record = s.store.upload(upload_id)
    if record is None or record.ended:
        return named
    return named | s.store.named_tokens(upload_id, tokens)


def pending_events(s: Session, limit: int) -> Sequence[LedgerEvent]:
    """Unpublished events, in order per upload, oldest upload first; then some whose time to be
    tried again has come: they never take the place of others."""
    found: list[LedgerEvent] = []
    for upload_id in s.store.with_events(limit):
        found += s.store.events(upload_id)
        if len(found) >= limit:
            break
    found = found[:limit]
    for upload_id in s.store.with_withheld_events(RETRIED_AT_ONCE, s.clock()):
        found += s.store.events(upload_id)
    return found


def upload_events(s: Session, upload_id: str) -> Sequence[LedgerEvent]:
    """The unpublished events of one upload."""
    s.require(upload_id)
    return s.store.events(upload_id)


def events_published(s: Session, upload_id: str, up_to_sequence: int) -> None:
    """Drop what the broker has."""
    record = s.require(upload_id)
    dropped = s.store.drop_events(upload_id, up_to_sequence)
    if dropped:
        record.events_pending -= dropped
        record.events_retry_at = 0.0
        s.store.save(record)


def withhold_events(s: Session, upload_id: str, seconds: float) -> None:
    """Leave the upload's events out of `pending_events` for a while. Shows in no snapshot."""
    record = s.require(upload_id)
    record.events_retry_at = s.clock() + seconds
    s.store.save(record)


def backlog(s: Session) -> Backlog:
    """How full the chunk store is."""
    s.budget.expire_reservations(s.clock())
    return Backlog(
        s.budget.queued_bytes,
        s.budget.reserved_bytes,
        s.options.budget_bytes,
        s.store.count_open(),
    )


def behind(s: Session, limit: int) -> Sequence[str]:
    """Uploads with a step left to do, after a crash between two steps."""
    return s.store.behind(limit)


def _idle_holders(s: Session, since: float, limit: int) -> list[str]:
    """Uploads that hold bytes and got no chunk since. Whoever was refused meanwhile sent nothing
    because of the pressure itself, and hides nobody."""
    asked = limit
    while asked > 0:
        found = s.store.idle_holders(since, asked)
        idle = [upload_id for upload_id in found if not s.budget.refused_since(upload_id, since)]
        if len(idle) >= limit or len(found) < asked:
            return idle[:limit]
        asked *= 2
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
