"""Errors for the refusals of scripts, which consist of a tag and facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sluice_core.errors import Aborted, SluiceError
from sluice_core.ledger import refusals
from sluice_core.uploads.model import UploadStatus
from sluice_core.uploads.states import upload_completing, upload_ended


def created_too_late() -> Aborted:
    """Return the error for a caller that was delayed between two steps; nothing was created."""
    return Aborted("CREATED_TOO_LATE", "The upload could not be opened in time; start it again.")


_NUMERIC_REFUSALS: Mapping[str, Callable[..., SluiceError]] = {
    maker.__name__: maker
    for maker in (
        refusals.upload_not_found,
        refusals.request_id_conflict,
        refusals.budget_full,
        refusals.no_room_for_chunk,
        refusals.upload_not_ended,
        refusals.bad_chunk_number,
        refusals.chunk_too_large,
        refusals.beyond_declared_chunks,
        refusals.expected_size_exceeded,
        refusals.object_too_large,
        refusals.total_mismatch,
        refusals.last_below_received,
        refusals.chunk_size_mismatch,
        refusals.empty_chunk,
        refusals.after_empty_chunk,
        refusals.chunk_conflict,
        refusals.chunk_queued,
        refusals.completing_takes_no_chunk,
        refusals.total_unknown,
        refusals.total_below_received,
        refusals.chunks_missing,
        refusals.size_mismatch,
        refusals.fenced,
        refusals.part_not_ready,
        refusals.part_size_mismatch,
        refusals.chunk_not_in_part,
        upload_completing,
        refusals.staging_lost,
        created_too_late,
    )
}


def refusal(answer: Sequence[Any]) -> SluiceError:
    """Return the error for (tag, fact, …). The tag names the function that creates the error."""
    tag, *facts = (value.decode() for value in answer)
    if tag == "unknown_format":
        return refusals.unknown_format(*facts)
    if tag == "claim_mismatch":
        return refusals.claim_mismatch(*facts)
    if tag == "upload_ended":
        return upload_ended(UploadStatus(*facts))
    return _NUMERIC_REFUSALS[tag](*map(int, facts))
