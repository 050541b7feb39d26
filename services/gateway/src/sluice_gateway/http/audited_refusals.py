"""Refused callers, as entries of the audit log."""

from __future__ import annotations

import time
from typing import Final

from sluice_core.access.audit import AUTHENTICATE, NO_TENANT, AccountAction, AuditEntry, find_trail
from sluice_core.access.principal import find_principal
from sluice_core.errors import PermissionDenied, SluiceError, Unauthenticated

_ACTIONS: Final = {
    "WRONG_CREDENTIALS": AccountAction.LOG_IN.value,
    "LINK_ENDED": AccountAction.LOG_IN_BY_LINK.value,
    "SESSION_ENDED": AccountAction.REFRESH_SESSION.value,
}
"""By reason. All others refuse a token, a signed URL or the page of a foreign origin."""


def refusal_entry(error: SluiceError) -> AuditEntry | None:
    """Return the entry of a refusal of the current request; None unless it refuses the caller.

    What a caller without a principal is denied is denied to the caller: a signed URL that is not
    valid, or a foreign origin. It has no tenant, since nothing that it says is verified.
    """
    principal = find_principal()
    refuses_caller = isinstance(error, Unauthenticated) or (
        isinstance(error, PermissionDenied) and principal is None
    )
    if not refuses_caller:
        return None
    trail = find_trail()
    return AuditEntry(
        tenant=NO_TENANT if principal is None else principal.tenant,
        subject="" if principal is None else principal.subject,
        action=_ACTIONS.get(error.reason, AUTHENTICATE),
        outcome=error.reason,
        request_id="" if trail is None else trail.request_id,
        peer="" if trail is None else trail.peer,
        occurred_at=time.time(),
    )
