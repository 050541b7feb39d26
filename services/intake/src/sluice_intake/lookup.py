"""Lookup of the caller's upload; an unknown upload is either not found or lost (rule 28)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sluice_core.access.principal import Principal
from sluice_core.errors import NotFound
from sluice_core.ports import LifecycleLedger
from sluice_core.uploads.ids import nonce_of
from sluice_core.uploads.model import UploadSnapshot
from sluice_core.uploads.names import check_upload_id

_LEDGER_ID = re.compile(r"[^-]+-[0-9a-f]{32}")
"""The form of an upload id that a ledger issued: its nonce, then 32 hex digits."""


async def find_upload(
    ledger: LifecycleLedger, principal: Principal, upload_id: str
) -> UploadSnapshot:
    """Return the upload, which must belong to the caller's tenant.

    Raise `InvalidArgument` BAD_UPLOAD_ID, `NotFound` UPLOAD_LOST or UPLOAD_NOT_FOUND. The error
    for another tenant's upload is that for an unknown one.
    """
    check_upload_id(upload_id)
    with reporting_lost_uploads(ledger, upload_id):
        snapshot = await ledger.get(upload_id)
    _check_tenant(ledger, principal, upload_id, snapshot.new.tenant)
    return snapshot


async def check_upload(ledger: LifecycleLedger, principal: Principal, upload_id: str) -> None:
    """Check that the upload belongs to the caller's tenant, before a step that reads the upload.

    Raise the errors of `find_upload`. An upload that was purged may pass; the step reports it.
    """
    check_upload_id(upload_id)
    with reporting_lost_uploads(ledger, upload_id):
        tenant = await ledger.tenant_of(upload_id)
    _check_tenant(ledger, principal, upload_id, tenant)


def _check_tenant(
    ledger: LifecycleLedger, principal: Principal, upload_id: str, tenant: str
) -> None:
    if tenant != principal.tenant:
        raise _unknown_upload(ledger, upload_id)


@contextmanager
def reporting_lost_uploads(ledger: LifecycleLedger, upload_id: str) -> Iterator[None]:
    """Convert the ledger's UPLOAD_NOT_FOUND to UPLOAD_LOST if another ledger issued the id.

    A ledger that was emptied or replaced has another nonce than the one in the id.
    """
    try:
        yield
    except NotFound as error:
        if error.reason != "UPLOAD_NOT_FOUND":
            raise
        raise _unknown_upload(ledger, upload_id) from None


def _unknown_upload(ledger: LifecycleLedger, upload_id: str) -> NotFound:
    if _LEDGER_ID.fullmatch(upload_id) and nonce_of(upload_id) != ledger.nonce:
        return NotFound(
            "UPLOAD_LOST",
            "The server lost its record of this upload; initiate it again and send every chunk.",
        )
    return NotFound("UPLOAD_NOT_FOUND", "There is no such upload; initiate one.")
