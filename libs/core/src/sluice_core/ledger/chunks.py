"""Chunk admission before the bytes are read, and acceptance afterwards (rules 1–5, 9, 10)."""

from __future__ import annotations

from sluice_core.ledger import layout, refusals
from sluice_core.ledger.budget import RoomRequest
from sluice_core.ledger.limits import check_range, check_total, total_of
from sluice_core.ledger.record import UploadRecord
from sluice_core.ledger.store import Session
from sluice_core.ports import Acceptance, Admission, ChunkOffer, Verdict
from sluice_core.ports.inspection import PartState
from sluice_core.uploads.model import ChunkRef, UploadStatus
from sluice_core.uploads.states import TAKES_CHUNKS, check_transition


def admit_chunk(s: Session, offer: ChunkOffer) -> Admission:
    """Decide whether the bytes of this chunk may be read now; if so, reserve room for them."""
    record = s.require(offer.upload_id)
    check_range(offer, s.options)
    existing = s.store.chunk(offer.upload_id, offer.number)
    # A duplicate or a conflict: `accept_chunk` compares the content.
    known = existing is not None and not (offer.force and record.status in TAKES_CHUNKS)
    if known:
        check_total(record, offer)
    else:
        if existing is None:
            _check_open(record)
        total_of(record, offer, existing.size if existing else 0)

    budget, now = s.budget, s.clock()
    budget.expire_reservations(now)
    held = budget.held(offer.token)
    wanted = offer.size if offer.hold_bytes is None else max(0, min(offer.hold_bytes, offer.size))
    if held is None or wanted > held:
        begins, has = held is None, held or 0
        request = RoomRequest(
            wanted - has,
            offer.size - has,
            announced=offer.size if begins else 0,
            begins=begins and offer.size > 0,
        )
        if begins and known:
            if not budget.fits(record, request, now):
                return Admission(granted=True, held_bytes=offer.size, known=True)
        elif begins and not _within_look_ahead(s, record, offer):
            return _refused(s, record, offer, "LOOKAHEAD_EXCEEDED", has, now)
        else:
            step = _room_for(s, record, offer.number, request, now)
            if step is None:
                budget.note_full(record.new.tenant, request, now)
                return _refused(s, record, offer, "BUDGET_FULL", has, now)
            wanted = has + step
    budget.hold(record, offer.token, wanted, offer.size, now)
    pressed = budget.is_pressed(record.new.tenant, now)
    return Admission(granted=True, held_bytes=wanted, pressed=pressed)


def _refused(
    s: Session, record: UploadRecord, offer: ChunkOffer, reason: str, held: int, now: float
) -> Admission:
    s.budget.renew(offer.token, now)  # its staged bytes still count
    s.budget.note_refused(offer.upload_id, now)
    return Admission(False, reason, record.needed_number, held)


def _room_for(
    s: Session, record: UploadRecord, number: int, request: RoomRequest, now: float
) -> int | None:
    """Return the bytes to reserve in addition; None when there is no room (rule 9)."""
    if s.budget.fits(record, request, now):
        return request.step
    if not _is_next_needed(record, number):
        return None
    part, part_bytes = _needed_part(s, record), record.part_bytes_now()
    return s.budget.fits_reserve(record, request, part, part_bytes, now)


def release_chunk(s: Session, offer: ChunkOffer) -> None:
    """Release the reservation of `admit_chunk`."""
    s.budget.release(offer.token)


def accept_chunk(s: Session, offer: ChunkOffer, crc32c: int) -> tuple[Acceptance, bool]:
    """Commit a staged chunk (rule 1); also return whether a bounded step is left to do."""
    held = s.budget.settle(offer.token) or 0
    record = s.require(offer.upload_id)
    check_range(offer, s.options)
    existing = s.store.chunk(offer.upload_id, offer.number)
    if existing is None:
        return _accept_new(s, record, offer, crc32c, held)
    if existing.size == offer.size and existing.crc32c == crc32c:
        return _accept_duplicate(s, record, offer, existing)
    if not offer.force:
        raise refusals.chunk_conflict(offer.number)
    return _replace(s, record, offer, crc32c, existing, held)


def _check_room(s: Session, record: UploadRecord, offer: ChunkOffer, held: int) -> None:
    """Raise when a chunk's reservation expired and there is no room for its bytes (rule 9)."""
    if not offer.staged:
        raise refusals.staging_lost()
    if held >= offer.size:
        return
    request = RoomRequest(offer.size, offer.size, announced=offer.size, begins=False)
    if _room_for(s, record, offer.number, request, s.clock()) is None:
        raise refusals.no_room_for_chunk(offer.number, record.needed_number)


def _accept_new(
    s: Session, record: UploadRecord, offer: ChunkOffer, crc32c: int, held: int
) -> tuple[Acceptance, bool]:
    _check_open(record)
    rejected = s.store.rejected(offer.upload_id, offer.number) if record.rejected_count else None
    if rejected is not None and (rejected.size != offer.size or rejected.crc32c != crc32c):
        # Its part is laid out already; other bytes would mix two contents.
        raise refusals.chunk_conflict(offer.number)
    total = total_of(record, offer, 0)
    _check_room(s, record, offer, held)

    if record.status is UploadStatus.PENDING:
        record.status = UploadStatus.UPLOADING
    if rejected is not None:
        s.store.drop_rejected(offer.upload_id, offer.number)
        record.rejected_count -= 1
        record.first_rejected = s.store.first_rejected(offer.upload_id)
    chunk = ChunkRef(offer.number, offer.size, crc32c, offer.token)
    s.store.put_chunk(offer.upload_id, chunk)
    ready = layout.place(s, record, offer.number, offer.size)
    return _committed(s, record, Verdict.NEW, chunk, total, ready, ())


def _replace(
    s: Session,
    record: UploadRecord,
    offer: ChunkOffer,
    crc32c: int,
    existing: ChunkRef,
    held: int,
) -> tuple[Acceptance, bool]:
    """Replace a chunk (`force`, rule 2), only while its part has not been queued."""
    _check_open(record)
    if _is_queued(s, record, offer.number):
        raise refusals.chunk_queued(offer.number)
    total = total_of(record, offer, existing.size)
    _check_room(s, record, offer, held)
    chunk = ChunkRef(offer.number, offer.size, crc32c, offer.token)
    s.store.put_chunk(offer.upload_id, chunk)
    ready = layout.resize(s, record, offer.number, offer.size - existing.size)
    return _committed(s, record, Verdict.REPLACED, chunk, total, ready, (existing.token,))


def _committed(
    s: Session,
    record: UploadRecord,
    verdict: Verdict,
    chunk: ChunkRef,
    total: int | None,
    ready: list[int],
    drop_tokens: tuple[str, ...],
) -> tuple[Acceptance, bool]:
    now = s.clock()
    if total is not None and record.total_chunks is None:
        ready += layout.fix_total(s, record, total)
    record.last_chunk_at = now
    if now < record.created_at + s.options.total_lifetime_seconds:
        record.expiry_seen_at = None  # active again (rule 24)
    record.changed(now)
    s.save(record)
    s.budget.note_progress(record.new.upload_id, now)
    if s.options.discard_on_accept:
        s.budget.note_freed()
    acceptance = Acceptance(verdict, chunk, s.snapshot(record), tuple(ready), drop_tokens)
    return acceptance, record.behind


def _accept_duplicate(
    s: Session, record: UploadRecord, offer: ChunkOffer, existing: ChunkRef
) -> tuple[Acceptance, bool]:
    """Acknowledge a duplicate while the record exists (rule 2).

    The same token means that the response to the first call was lost: drop no bytes. `is_last`
    still counts, because the sender may learn late that nothing follows.
    """
    check_total(record, offer)
    if offer.is_last and record.total_chunks is None and record.status in TAKES_CHUNKS:
        total = total_of(record, offer, existing.size)
        return _committed(
            s, record, Verdict.DUPLICATE, existing, total, [], _own_token(offer, existing)
        )
    s.budget.note_freed()
    is_retry = offer.token == existing.token
    acceptance = Acceptance(
        Verdict.NEW if is_retry else Verdict.DUPLICATE,
        existing,
        s.snapshot(record),
        _ready_part_of(s, record, offer.number) if is_retry else (),
        _own_token(offer, existing),
        record.completion_ready,
    )
    return acceptance, record.behind


def _own_token(offer: ChunkOffer, existing: ChunkRef) -> tuple[str, ...]:
    return () if offer.token == existing.token else (offer.token,)


# ------------------------------------------------------------------ queries


def _check_open(record: UploadRecord) -> None:
    """Raise unless the upload is PENDING or UPLOADING."""
    if record.status is UploadStatus.UPLOADING:
        return
    if record.status is UploadStatus.COMPLETING:
        raise refusals.completing_takes_no_chunk()
    check_transition(record.status, UploadStatus.UPLOADING)


def _part_of(s: Session, record: UploadRecord, number: int) -> int:
    """Return the part of a chunk; from the frontier on the part that is cut next."""
    plan, frontier = record.uniform, record.frontier
    if plan is not None:
        return plan.part_of_chunk(number)
    if frontier is None or number >= frontier.first_chunk:
        return frontier.parts_cut + 1 if frontier else 1
    row = s.store.part_with_chunk(record.new.upload_id, number)
    return row.number if row else 1


def _needed_part(s: Session, record: UploadRecord) -> int:
    return _part_of(s, record, record.needed_number)


def _ready_part_of(s: Session, record: UploadRecord, number: int) -> tuple[int, ...]:
    row = s.store.part(record.new.upload_id, _part_of(s, record, number))
    return (row.number,) if row is not None and row.state is PartState.READY else ()


def _is_queued(s: Session, record: UploadRecord, number: int) -> bool:
    frontier = record.frontier
    if frontier is not None:
        return number < frontier.first_chunk
    row = s.store.part(record.new.upload_id, _part_of(s, record, number))
    return row is not None and row.queued


def _is_next_needed(record: UploadRecord, number: int) -> bool:
    """Return whether this chunk belongs to the first incomplete part."""
    plan = record.uniform
    if plan is None:
        return number == record.needed_number
    return plan.part_of_chunk(number) == plan.part_of_chunk(record.needed_number)


def _within_look_ahead(s: Session, record: UploadRecord, offer: ChunkOffer) -> bool:
    """Return whether rule 10 holds. It bounds frontier uploads only: uniform parts become ready in
    any order."""
    frontier = record.frontier
    if frontier is None or offer.number == record.needed_number:
        return True
    # A chunk larger than a part forms one part alone.
    bound = s.options.look_ahead_parts * max(frontier.target_bytes, offer.size)
    return record.pending_bytes + s.budget.announced_of(offer.upload_id) + offer.size <= bound
