"""Finished uploads for tests that use the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sluice_core.events.uploads import upload_initiated
from sluice_core.ports import LedgerEvent
from sluice_core.ports.catalogue import NodeCommit, ObjectIntent
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.ids import new_node_id
from sluice_core.uploads.model import Integrity, NewUpload, ObjectRef

TENANT = "acme"
DRIVE = "photos"
BUCKET = "sluice"


def finished_upload(
    path: str,
    *,
    node_id: str = "",
    tenant: str = TENANT,
    drive: str = DRIVE,
    content: bytes = b"hello",
    sha256: bytes | None = None,
    metadata: Mapping[str, str] | None = None,
    if_absent: bool = False,
    integrity: Integrity = Integrity.SHA256_ASYNC,
    ledger_events: Sequence[LedgerEvent] = (),
) -> NodeCommit:
    """Return the commit of a finished upload; of a new node unless `node_id` is given."""
    node_id = node_id or new_node_id()
    return NodeCommit(
        upload_id=f"upload-{node_id}",
        node_id=node_id,
        tenant=tenant,
        drive=drive,
        path=path,
        size=len(content),
        content_type="text/plain",
        crc32c=crc32c(content),
        sha256=sha256,
        metadata=metadata or {},
        object=ObjectRef(BUCKET, f"{tenant}/{drive}/{node_id}"),
        if_absent=if_absent,
        integrity=integrity,
        ledger_events=ledger_events,
    )


def intent_of(commit: NodeCommit) -> ObjectIntent:
    """Return the intent that the worker recorded before it created the object (rule 13)."""
    return ObjectIntent(commit.upload_id, commit.tenant, commit.object, "", 1_000.5)


def initiated_event(commit: NodeCommit) -> LedgerEvent:
    """Return the unpublished UploadInitiated event of the ledger."""
    new = NewUpload(
        upload_id=commit.upload_id,
        node_id=commit.node_id,
        tenant=commit.tenant,
        subject="tester",
        drive=commit.drive,
        path=commit.path,
        content_type=commit.content_type,
        fingerprint="f",
        object=commit.object,
        part_bytes=8 * 1024 * 1024,
    )
    return upload_initiated(new, 1, 1_000.5)
