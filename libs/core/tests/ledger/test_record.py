"""Storage form of what `InitiateUpload` fixes."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace

from sluice_core.ledger.record import decode_new, encode_new
from sluice_core.uploads.model import Integrity, NewUpload, ObjectRef

REQUIRED = NewUpload(
    upload_id="u",
    node_id="n",
    tenant="t",
    subject="s",
    drive="d",
    path="p",
    content_type="text/plain",
    fingerprint="f",
    object=ObjectRef("bucket", "key"),
    part_bytes=8,
)


def test_stored_upload_is_read_back_whole() -> None:
    new = replace(
        REQUIRED,
        integrity=Integrity.SHA256_BEFORE_VISIBLE,
        sha256=bytes(32),
        metadata={"k": "v"},
        if_absent=True,
        chunk_size=4,
    )
    assert decode_new(encode_new(new)) == new


def test_fields_of_a_later_release_get_defaults() -> None:
    """Uploads in flight survive an upgrade that adds fields to `NewUpload`."""
    stored = encode_new(REQUIRED)
    structured = {"integrity", "sha256", "metadata"}
    optional = {f.name for f in fields(NewUpload) if f.default is not MISSING} - structured
    assert optional
    for name in optional:
        del stored[name]
    assert decode_new(stored) == REQUIRED
