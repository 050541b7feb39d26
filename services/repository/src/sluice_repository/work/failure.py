"""Failing an upload for good."""

from __future__ import annotations

import structlog

from sluice_core.errors import FailedPrecondition
from sluice_core.ports import CompletionClaim, PartClaim
from sluice_core.uploads.failures import failure_class
from sluice_repository.deps import RepositoryDeps

_log = structlog.get_logger(__name__)


async def fail_upload(
    deps: RepositoryDeps,
    claim: PartClaim | CompletionClaim,
    reason: str,
    detail: str,
    log_detail: str = "",
) -> str:
    """Fail the upload of a claim and return the outcome "failed".

    A failure that only a change of the drive or the deployment prevents is logged as an error, any
    other as a warning.

    Args:
        detail: stored for the upload's owner.
        log_detail: what is logged instead of `detail`; it may name internals.
    """
    upload_id = claim.snapshot.upload_id
    await deps.ledger.fail(upload_id, reason, detail, claim.fence)
    log = _log.error if failure_class(reason) is FailedPrecondition else _log.warning
    log("upload.failed", upload_id=upload_id, reason=reason, detail=log_detail or detail)
    deps.relay_wakeup.set()
    return "failed"
