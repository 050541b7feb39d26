"""Finding the caller's upload, and telling "never was" from "was lost" (rule 28)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sluice_core.access.principal import Principal
from sluice_core.errors import NotFound
from sluice_core.ports import UploadLedger
from sluice_core.uploads.ids import nonce_of
from sluice_core.uploads.model import UploadSnapshot
from sluice_core.uploads.names import check_upload_id

_MADE_BY_A_LEDGER = re.compile(r"[^-]+-[0-9a-f]{32}")


async def find_upload(ledger: UploadLedger, principal: Principal, upload_id: str) -> UploadSnapshot:
    """The upload, if it is the caller's tenant's.

    Raises `InvalidArgument` BAD_UPLOAD_ID, `NotFound` UPLOAD_LOST or UPLOAD_NOT_FOUND; another
    tenant's upload looks exactly like none.
    """
    check_upload_id(upload_id)
    with telling_lost(ledger, upload_id):
        snapshot = await ledger.get(upload_id)
    _check_tenant(ledger, principal, upload_id, snapshot.new.tenant)
    return snapshot


async def check_upload(ledger: UploadLedger, principal: Principal, upload_id: str) -> None:
    """Before a step that looks at the upload itself: is it the caller's tenant's? Raises as
    `find_upload` does, except that an upload which is no more may pass."""
    check_upload_id(upload_id)
    with telling_lost(ledger, upload_id):
        tenant = await ledger.tenant_of(upload_id)
    _check_tenant(ledger, principal, upload_id, tenant)


def _check_tenant(ledger: UploadLedger, principal: Principal, upload_id: str, tenant: str) -> None:
    if tenant != principal.tenant:
        raise _unknown_upload(ledger, upload_id)


@contextmanager
def telling_lost(ledger: UploadLedger, upload_id: str) -> Iterator[None]:
    """Inside, the ledger's UPLOAD_NOT_FOUND becomes UPLOAD_LOST where that is the truth.

    A ledger that was emptied or replaced has another nonce than the one in the id.
    """
    try:
        yield
    except NotFound as error:
        if error.reason != "UPLOAD_NOT_FOUND":
            raise
        raise _unknown_upload(ledger, upload_id) from None


def _unknown_upload(ledger: UploadLedger, upload_id: str) -> NotFound:
    if _MADE_BY_A_LEDGER.fullmatch(upload_id) and nonce_of(upload_id) != ledger.nonce:
        return NotFound(
            "UPLOAD_LOST",
            "The server lost its record of this upload; initiate it again and send every chunk.",
        )
    return NotFound("UPLOAD_NOT_FOUND", "There is no such upload; initiate one.")
