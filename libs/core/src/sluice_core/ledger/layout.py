"""Layout of received chunks into parts (rule 12). Each function changes one upload in bounded
steps and never raises; the caller saves the record.
"""

from __future__ import annotations

from sluice_core.ledger.record import UploadRecord
from sluice_core.ledger.store import PartRow, RejectedChunk, Session
from sluice_core.ports.inspection import PartState
from sluice_core.uploads.checksums import EMPTY_CRC32C, combined_crc32c
from sluice_core.uploads.model import PartPlan
from sluice_core.uploads.planner import Cut, UniformPlan

STEP_CHUNKS = 1_000
"""Chunks visited by one step; further steps continue a longer run (`behind`)."""

STEP_PARTS = 1_000
"""Stored parts that the watermark passes in one step."""


def place(s: Session, record: UploadRecord, number: int, size: int) -> list[int]:
    """Count a received chunk and add it to its part; return the parts that became ready."""
    ready: list[int] = []
    record.received_chunks += 1
    record.received_bytes += size
    record.pending_bytes += size
    if not s.options.discard_on_accept:
        record.queued_bytes += size
    if number > record.highest:
        record.highest = number
    plan, frontier = record.uniform, record.frontier
    if plan is not None:
        _fill(s, record, _uniform_part(s, record, plan, plan.part_of_chunk(number)), size, ready)
    elif frontier is not None and number < frontier.first_chunk:
        row = s.store.part_with_chunk(record.new.upload_id, number)
        if row is not None:
            _fill(s, record, row, size, ready)
    if number in (record.run_end, record.crc_end):
        _advance(s, record, ready)
    return ready


def resize(s: Session, record: UploadRecord, number: int, delta: int) -> list[int]:
    """Account for a replacement `delta` bytes larger, in a part that is not ready (rule 2)."""
    ready: list[int] = []
    record.received_bytes += delta
    record.pending_bytes += delta
    if not s.options.discard_on_accept:
        record.queued_bytes += delta
    plan, frontier = record.uniform, record.frontier
    if plan is not None:
        _fill(
            s,
            record,
            _uniform_part(s, record, plan, plan.part_of_chunk(number)),
            delta,
            ready,
            arrived=0,
        )
    elif frontier is not None and number < frontier.next_chunk:
        cut = frontier.resize(delta)
        if cut is not None:
            _add_part(s, record, cut, ready)
    if number < record.crc_end:
        record.crc_end = 0
        record.crc = EMPTY_CRC32C
    _advance(s, record, ready)
    return ready


def fix_total(s: Session, record: UploadRecord, total: int) -> list[int]:
    """Fix the number of chunks, where the last part ends; return the parts that became ready."""
    ready: list[int] = []
    record.total_chunks = total
    plan = record.uniform
    if plan is not None and total:
        row = s.store.part(record.new.upload_id, plan.part_of_chunk(total - 1))
        if row is not None and row.state is PartState.FILLING:
            row.last = total - 1
            _fill(s, record, row, 0, ready, arrived=0)
    elif plan is not None:
        _add_part(s, record, Cut(PartPlan(1, 0, -1), 0), ready)
    _advance(s, record, ready)
    return ready


def advance(s: Session, record: UploadRecord) -> list[int]:
    """Continue a run that a bounded step left unfinished; return the parts that became ready."""
    ready: list[int] = []
    _advance(s, record, ready)
    return ready


def take_back(s: Session, record: UploadRecord, row: PartRow, number: int, size: int) -> None:
    """Mark a received chunk as missing, in a part that is not stored (rule 8)."""
    if row.state is PartState.READY:
        record.pending_bytes += row.size
        row.state = PartState.FILLING
        s.budget.part_ready(record.new.upload_id, row.number, ready=False)
    row.received -= 1
    row.size -= size
    record.pending_bytes -= size
    record.received_chunks -= 1
    record.received_bytes -= size
    if not s.options.discard_on_accept:
        record.queued_bytes -= size
    s.store.put_part(record.new.upload_id, row)


def mark_stored(s: Session, record: UploadRecord, row: PartRow) -> None:
    """Mark a ready part as stored: its bytes leave the budget."""
    row.state = PartState.STORED
    s.store.put_part(record.new.upload_id, row)
    record.holds.pop(row.number, None)
    record.stored_bytes += row.size
    record.stored_chunks += row.received
    record.stored_count += 1
    if not s.options.discard_on_accept:
        record.queued_bytes -= row.size
    _move_watermark(s, record)
    s.budget.part_stored(record.new.upload_id, row.number)


def mark_lost(s: Session, record: UploadRecord, row: PartRow) -> None:
    """Mark the chunks of a lost stored part as missing (rule 16).

    The step covers all chunks of the part. It is not bounded further, because it is very rare.
    """
    upload_id = record.new.upload_id
    for chunk in s.store.chunks(upload_id, row.first, row.last, row.received):
        s.store.reject(upload_id, RejectedChunk(chunk.number, chunk.size, chunk.crc32c))
    record.rejected_count += row.received
    record.first_rejected = s.store.first_rejected(upload_id)
    record.stored_bytes -= row.size
    record.stored_chunks -= row.received
    record.stored_count -= 1
    record.received_bytes -= row.size
    record.received_chunks -= row.received
    row.received = 0
    row.size = 0
    # The only part of an empty object has no chunk to wait for: it is ready at once.
    row.state = PartState.READY if row.full else PartState.FILLING
    row.etag = ""
    row.sha256 = None
    if row.number <= record.watermark_part:
        record.watermark_part = row.number - 1
        record.watermark_chunk = row.first
    s.store.put_part(upload_id, row)


# ------------------------------------------------------------------ steps


def _uniform_part(s: Session, record: UploadRecord, plan: UniformPlan, part: int) -> PartRow:
    row = s.store.part(record.new.upload_id, part)
    if row is None:
        chunks = plan.chunks_of_part(part)
        total = record.total_chunks
        last = chunks.last if total is None else min(chunks.last, total - 1)
        row = PartRow(part, chunks.first, last)
    return row


def _fill(
    s: Session,
    record: UploadRecord,
    row: PartRow,
    size: int,
    ready: list[int],
    arrived: int = 1,
) -> None:
    row.received += arrived
    row.size += size
    if row.full:
        _make_ready(s, record, row, ready)
    else:
        s.store.put_part(record.new.upload_id, row)


def _add_part(s: Session, record: UploadRecord, cut: Cut, ready: list[int]) -> None:
    """Add a part whose chunks are all received."""
    number, first, last = cut.plan.number, cut.plan.first_chunk, cut.plan.last_chunk
    row = PartRow(number, first, last, received=last - first + 1, size=cut.size)
    _make_ready(s, record, row, ready)


def _make_ready(s: Session, record: UploadRecord, row: PartRow, ready: list[int]) -> None:
    record.pending_bytes -= row.size
    row.queued = True
    # A claim from before a rejection must not store bytes received since (rule 15).
    record.holds.pop(row.number, None)
    if s.options.discard_on_accept:
        mark_stored(s, record, row)
        return
    row.state = PartState.READY
    s.store.put_part(record.new.upload_id, row)
    s.budget.part_ready(record.new.upload_id, row.number, ready=True)
    ready.append(row.number)


def _advance(s: Session, record: UploadRecord, ready: list[int]) -> None:
    """Extend the run, cut parts and update the CRC; at most STEP_CHUNKS chunks."""
    store, upload_id, frontier = s.store, record.new.upload_id, record.frontier
    steps = STEP_CHUNKS
    while steps and record.run_end <= record.highest:
        chunk = store.chunk(upload_id, record.run_end)
        if chunk is None:
            break
        steps -= 1
        if record.crc_end == record.run_end:
            record.crc = combined_crc32c(((chunk.crc32c, chunk.size),), record.crc)
            record.crc_end += 1
        record.run_end += 1
        if frontier is not None:
            cut = frontier.extend(chunk.size)
            if cut is not None:
                _add_part(s, record, cut, ready)
    while steps and record.crc_end < record.run_end:
        chunk = store.chunk(upload_id, record.crc_end)
        if chunk is None:
            break
        steps -= 1
        record.crc = combined_crc32c(((chunk.crc32c, chunk.size),), record.crc)
        record.crc_end += 1
    record.behind = not steps
    if frontier is not None and record.run_end == record.total_chunks:
        cut = frontier.finish()
        if cut is not None:
            _add_part(s, record, cut, ready)


def _move_watermark(s: Session, record: UploadRecord) -> None:
    """Advance the watermark over the stored parts from the left."""
    if record.all_stored and record.total_chunks is not None:
        record.watermark_part = record.stored_count
        record.watermark_chunk = record.total_chunks
        return
    for _ in range(STEP_PARTS):
        row = s.store.part(record.new.upload_id, record.watermark_part + 1)
        if row is None or row.state is not PartState.STORED:
            return
        record.watermark_part = row.number
        record.watermark_chunk = row.last + 1
