"""Which chunks an upload can ever take (rules 3, 4 and 21): checks that change nothing."""

from __future__ import annotations

from sluice_common.coordination.options import LedgerOptions
from sluice_common.coordination.ports import ChunkOffer
from sluice_common.coordination.rules.record import UploadRecord
from sluice_common.errors import FailedPrecondition, InvalidArgument, OutOfRange
from sluice_common.uploads.model import MAX_CHUNKS, MAX_OBJECT_BYTES


def check_range(offer: ChunkOffer, options: LedgerOptions) -> None:
    """Numbers and sizes that no upload takes."""
    if not 0 <= offer.number < MAX_CHUNKS:
        raise InvalidArgument(
            "BAD_CHUNK_NUMBER",
            f"Chunks are numbered 0 to {MAX_CHUNKS - 1}; send larger chunks for a larger object.",
            field="number",
        )
    if not 0 <= offer.size <= options.max_chunk_bytes:
        raise InvalidArgument(
            "CHUNK_TOO_LARGE",
            f"A chunk has at most {options.max_chunk_bytes} bytes; split it.",
            field="size",
        )


def check_total(record: UploadRecord, offer: ChunkOffer) -> None:
    """`is_last` and the number against the total that is fixed already (rule 3)."""
    total = record.total_chunks
    if total is None:
        return
    if offer.number >= total:
        if record.uniform and record.new.expected_size:
            raise OutOfRange(
                "EXPECTED_SIZE_EXCEEDED",
                f"{record.new.expected_size} bytes were declared, which are {total} chunks; "
                "start a new upload for a larger object.",
                field="number",
            )
        raise total_mismatch(total)
    if offer.is_last and offer.number != total - 1:
        raise total_mismatch(total)


def total_of(record: UploadRecord, offer: ChunkOffer, replaced_bytes: int) -> int | None:
    """Check a new chunk, or one that replaces `replaced_bytes`; the total as it is with it.

    Under a uniform plan a short chunk can only be the last one, so it fixes the total as `is_last`
    does.
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
            raise FailedPrecondition(
                "TOTAL_MISMATCH",
                f"Chunk {record.highest} is in, so chunk {number} cannot be the last one; "
                "complete the upload with the true number of chunks.",
                field="is_last",
            )
        total = number + 1
    _check_object_size(record, record.received_bytes - replaced_bytes + size)
    return total


def total_mismatch(total: int) -> FailedPrecondition:
    """Somebody already said how many chunks there are."""
    return FailedPrecondition(
        "TOTAL_MISMATCH",
        f"The number of chunks is fixed at {total}; keep to it or start a new upload.",
        metadata={"total_chunks": str(total)},
    )


def _check_uniform_size(record: UploadRecord, number: int, size: int, chunk_size: int) -> bool:
    """Rule 4. True when the chunk must be the last one because it is short."""
    total, expected = record.total_chunks, record.new.expected_size
    if total is not None and number == total - 1 and expected:
        exact = expected - number * chunk_size
        if size > exact:
            raise _expected_size_exceeded(expected)
        if size < exact:
            raise _size_mismatch(number, exact)
        return False
    if size > chunk_size:
        raise _size_mismatch(number, chunk_size)
    if size == chunk_size:
        return False
    if total is not None and number < total - 1:
        raise _size_mismatch(number, chunk_size)
    if record.highest > number:
        raise _size_mismatch(number, chunk_size)
    return True


def _check_empty(record: UploadRecord, offer: ChunkOffer) -> None:
    """An empty chunk is the only one of an empty object (rule 3).

    It may come without `is_last`; from then on nothing may follow it.
    """
    if offer.size == 0:
        if (
            offer.number != 0
            or record.highest > 0
            or record.total_chunks not in (None, 1)
            or record.new.expected_size
        ):
            raise InvalidArgument(
                "EMPTY_CHUNK",
                "Only the single chunk of an empty object may be empty; leave the chunk out.",
                field="size",
            )
    elif offer.number > 0 and record.received_chunks == 1 and record.received_bytes == 0:
        raise InvalidArgument(
            "EMPTY_CHUNK",
            "Chunk 0 is empty, so nothing may follow it; replace it with `force` or complete.",
            field="number",
        )


def _check_object_size(record: UploadRecord, received_bytes: int) -> None:
    expected = record.new.expected_size
    if expected is not None and received_bytes > expected:
        raise _expected_size_exceeded(expected)
    if received_bytes > MAX_OBJECT_BYTES:
        raise OutOfRange(
            "OBJECT_TOO_LARGE", f"An object has at most {MAX_OBJECT_BYTES} bytes.", field="size"
        )


def _size_mismatch(number: int, size: int) -> InvalidArgument:
    return InvalidArgument(
        "CHUNK_SIZE_MISMATCH",
        f"By the declared sizes chunk {number} has {size} bytes; send exactly those.",
        field="size",
    )


def _expected_size_exceeded(expected: int) -> OutOfRange:
    return OutOfRange(
        "EXPECTED_SIZE_EXCEEDED",
        f"{expected} bytes were declared; start a new upload for a larger object.",
        field="size",
    )
