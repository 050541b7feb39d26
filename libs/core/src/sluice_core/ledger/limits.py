"""Read-only checks of chunk numbers and sizes (rules 3, 4 and 21)."""

from __future__ import annotations

from sluice_core.ledger import refusals
from sluice_core.ledger.options import LedgerOptions
from sluice_core.ledger.record import UploadRecord
from sluice_core.ports import ChunkOffer
from sluice_core.uploads.model import MAX_CHUNKS, MAX_OBJECT_BYTES


def check_range(offer: ChunkOffer, options: LedgerOptions) -> None:
    """Raise for a number or size outside the limits of every upload."""
    if not 0 <= offer.number < MAX_CHUNKS:
        raise refusals.bad_chunk_number()
    if not 0 <= offer.size <= options.max_chunk_bytes:
        raise refusals.chunk_too_large(options.max_chunk_bytes)


def check_total(record: UploadRecord, offer: ChunkOffer) -> None:
    """Raise when the number or `is_last` contradicts a fixed total (rule 3)."""
    total = record.total_chunks
    if total is None:
        return
    if offer.number >= total:
        if record.uniform and record.new.expected_size:
            raise refusals.beyond_declared_chunks(record.new.expected_size, total)
        raise refusals.total_mismatch(total)
    if offer.is_last and offer.number != total - 1:
        raise refusals.total_mismatch(total)


def total_of(record: UploadRecord, offer: ChunkOffer, replaced_bytes: int) -> int | None:
    """Check a new chunk, or one that replaces `replaced_bytes`; return the total including it.

    Under a uniform plan only the last chunk may be short, so a short one fixes the total as
    `is_last` does.
    """
    check_total(record, offer)
    number, size, total = offer.number, offer.size, record.total_chunks
    is_last = offer.is_last
    if record.new.chunk_size:
        is_last = _check_uniform_size(record, number, size, record.new.chunk_size) or is_last
    if size == 0 or record.highest == 0:
        _check_empty(record, offer)
    if is_last and total is None:
        if record.highest > number:
            raise refusals.last_below_received(record.highest, number)
        total = number + 1
    _check_object_size(record, record.received_bytes - replaced_bytes + size)
    return total


def _check_uniform_size(record: UploadRecord, number: int, size: int, chunk_size: int) -> bool:
    """Check rule 4; return whether the chunk has to be the last one because it is short."""
    total, expected = record.total_chunks, record.new.expected_size
    if total is not None and number == total - 1 and expected:
        exact = expected - number * chunk_size
        if size > exact:
            raise refusals.expected_size_exceeded(expected)
        if size < exact:
            raise refusals.chunk_size_mismatch(number, exact)
        return False
    if size > chunk_size:
        raise refusals.chunk_size_mismatch(number, chunk_size)
    if size == chunk_size:
        return False
    if total is not None and number < total - 1:
        raise refusals.chunk_size_mismatch(number, chunk_size)
    if record.highest > number:
        raise refusals.chunk_size_mismatch(number, chunk_size)
    return True


def _check_empty(record: UploadRecord, offer: ChunkOffer) -> None:
    """Raise unless an empty chunk is the only one of an empty object (rule 3).

    It may arrive without `is_last`; no chunk may follow it even then.
    """
    if offer.size == 0:
        if (
            offer.number != 0
            or record.highest > 0
            or record.total_chunks not in (None, 1)
            or record.new.expected_size
        ):
            raise refusals.empty_chunk()
    elif offer.number > 0 and record.received_chunks == 1 and record.received_bytes == 0:
        raise refusals.after_empty_chunk()


def _check_object_size(record: UploadRecord, received_bytes: int) -> None:
    expected = record.new.expected_size
    if expected is not None and received_bytes > expected:
        raise refusals.expected_size_exceeded(expected)
    if received_bytes > MAX_OBJECT_BYTES:
        raise refusals.object_too_large()
