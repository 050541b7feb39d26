"""Refused callers and commands, as entries of the audit log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from sluice_core.access.audit import AUTHENTICATE, NO_TENANT, AccountAction, AuditEntry, find_trail
from sluice_core.access.principal import Principal, find_principal
from sluice_core.errors import (
    DataLoss,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    PermissionDenied,
    SluiceError,
    Unauthenticated,
    Unavailable,
)
from sluice_core.photos.ids import check_job_id, check_photo_id

_FAILURES: Final = (Unavailable, DeadlineExceeded, Internal, DataLoss)
"""These refuse nothing."""

_CREDENTIALS: Final = {
    "WRONG_CREDENTIALS": AccountAction.LOG_IN.value,
    "LINK_ENDED": AccountAction.LOG_IN_BY_LINK.value,
    "SESSION_ENDED": AccountAction.REFRESH_SESSION.value,
}
"""By reason. All others refuse a token, a signed URL or the page of a foreign origin."""

AUDITED_ROUTES: Final = {
    ("POST", "/commands/upload-jobs"): "CreateUploadJob",
    ("POST", "/commands/upload-jobs/{jobId}/cancel"): "CancelUploadJob",
    ("POST", "/commands/upload/{photoId}/parts"): "GetPartUrls",
    ("POST", "/commands/upload/{photoId}/renew"): "RenewUploadUrl",
    ("POST", "/commands/upload/{photoId}/retry"): "RetryPhoto",
    ("POST", "/commands/upload/{photoId}/cancel"): "CancelPhoto",
    ("POST", "/commands/photos/{photoId}/reprocess"): "ReprocessPhoto",
    ("DELETE", "/commands/photos/{photoId}"): "DeletePhoto",
    ("GET", "/queries/photos/{photoId}/download-url"): "GetPhotoDownloadUrl",
}
"""Action of each route whose successes are recorded."""


def refusal_entry(scope: Mapping[str, Any], error: SluiceError) -> AuditEntry | None:
    """Return the entry of a refusal of the current request; None for one that is not recorded.

    Recorded are refused callers, and refusals of the routes whose successes are recorded. What a
    caller without a principal is denied is denied to the caller: a signed URL that is not valid,
    or a foreign origin. It has no tenant, since nothing that it says is verified.
    """
    principal = find_principal()
    if isinstance(error, Unauthenticated) or (
        isinstance(error, PermissionDenied) and principal is None
    ):
        return _entry(principal, _CREDENTIALS.get(error.reason, AUTHENTICATE), "", error)
    action = AUDITED_ROUTES.get((scope.get("method", ""), _route_of(scope)))
    if principal is None or action is None or isinstance(error, _FAILURES):
        return None
    return _entry(principal, action, _object_of(scope.get("path_params", {})), error)


def _entry(principal: Principal | None, action: str, named: str, error: SluiceError) -> AuditEntry:
    trail = find_trail()
    return AuditEntry(
        tenant=NO_TENANT if principal is None else principal.tenant,
        subject="" if principal is None else principal.subject,
        action=action,
        object=named,
        outcome=error.reason,
        request_id="" if trail is None else trail.request_id,
        peer="" if trail is None else trail.peer,
        occurred_at=time.time(),
    )


def _route_of(scope: Mapping[str, Any]) -> str:
    return str(getattr(scope.get("route"), "path", ""))


def _object_of(parameters: Mapping[str, Any]) -> str:
    """Return the photo or the job in the path; empty if none is named validly."""
    try:
        if "photoId" in parameters:
            return f"photo/{check_photo_id(parameters['photoId'])}"
        if "jobId" in parameters:
            return f"job/{check_job_id(parameters['jobId'])}"
    except InvalidArgument:
        pass
    return ""
