"""The layer that records refused changes and refused tokens for the audit log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

from sluice_common.security.audit import RefusalSink
from sluice_core.access.actions import GUARDED_SERVICES, Action
from sluice_core.access.audit import (
    AUDITED,
    AUTHENTICATE,
    MAX_PEER_CHARACTERS,
    NO_TENANT,
    AuditEntry,
    Trail,
    begin_trail,
)
from sluice_core.access.principal import find_principal
from sluice_core.errors import (
    DataLoss,
    DeadlineExceeded,
    Internal,
    PermissionDenied,
    SluiceError,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:  # the interceptors import this module
    from sluice_common.rpc.interceptors import Call, Proceed

_FAILURES: Final = (Unavailable, DeadlineExceeded, Internal, DataLoss)
"""Errors that refuse nothing: whether the change was made is unknown, or it can be repeated."""

_CHANGING: Final = AUDITED | {Action.INITIATE_UPLOAD}
"""Calls that may make an audited change: an upload may create its drive (`sluice serve`)."""


class AuditTrail:
    """Gives a call its trail, and passes its refusal to `sink`.

    It is outside of authentication, and so sees refused tokens. A successful change is recorded by
    its own transaction.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, sink: RefusalSink, *, clock: Callable[[], float] = time.time) -> None:
        self._sink = sink
        self._clock = clock

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        is_guarded = call.service in GUARDED_SERVICES
        trail = None
        if is_guarded and call.method in _CHANGING:
            trail = Trail(_request_id(), host_of(context.peer()))
            begin_trail(trail)
        try:
            return await proceed(requests, context)
        except SluiceError as error:
            self._record(call, trail, error, context, is_guarded=is_guarded)
            raise

    def _record(
        self, call: Call, trail: Trail | None, error: SluiceError, context: Any, *, is_guarded: bool
    ) -> None:
        principal = find_principal()
        refuses_caller = isinstance(error, Unauthenticated) or (
            isinstance(error, PermissionDenied) and principal is None
        )
        if refuses_caller:
            action, named = AUTHENTICATE, ""
        elif is_guarded and call.method in AUDITED and not isinstance(error, _FAILURES):
            action, named = call.method, "" if trail is None else trail.object
        else:
            return
        self._sink.add(
            AuditEntry(
                tenant=NO_TENANT if principal is None else principal.tenant,
                subject="" if principal is None else principal.subject,
                action=action,
                object=named,
                outcome=error.reason,
                request_id=_request_id(),
                peer=host_of(context.peer()),
                occurred_at=self._clock(),
            )
        )


def host_of(peer: str) -> str:
    """Return the host of gRPC's name of a peer, without scheme and port: `10.0.0.1`, `::1`."""
    scheme, _, rest = peer.partition(":")
    if scheme not in ("ipv4", "ipv6"):
        return scheme[:MAX_PEER_CHARACTERS]
    host = rest.replace("%5B", "[").replace("%5D", "]").rpartition(":")[0]
    return host.strip("[]")[:MAX_PEER_CHARACTERS]


def _request_id() -> str:
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))
