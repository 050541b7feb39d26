"""Layer that counts every call of a caller against the rate limits."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2
from sluice_common.rates.limiter import RateLimiter
from sluice_common.rpc.interceptors import PUBLIC_SERVICES, Call, Proceed
from sluice_common.security.peers import INTERNAL_SERVICES, service_of
from sluice_core.access.principal import current_principal
from sluice_core.rates.model import RateKind

_EXEMPT: Final = PUBLIC_SERVICES | INTERNAL_SERVICES
"""Health and reflection have no caller; chunks on their way between services were counted when they
came in."""

_INTAKE: Final = upload_pb2.DESCRIPTOR.services_by_name["IntakeService"].full_name

_REPOSITORY: Final = repository_pb2.DESCRIPTOR.services_by_name["RepositoryService"].full_name
_LOOK_UPS: Final = frozenset({"GetDrive", "GetNode", "ReserveQuota", "ReleaseQuota"})
"""What an intake calls at the repository while it serves a call of the same caller."""


class RateLimiting:
    """Refuses calls above the rate, after authentication and before the request is read.

    Args:
        peers: names of services (`SLUICE_TLS__PEERS`). Their look-ups for a caller are not counted:
            the call that they serve was.
    """

    def __init__(self, limiter: RateLimiter, peers: Collection[str] = ()) -> None:
        self._limiter = limiter
        self._peers = frozenset(peers)

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        if call.service not in _EXEMPT and not self._is_look_up_of_peer(call, context):
            is_upload = call.method == "InitiateUpload" and call.service == _INTAKE
            kinds = (RateKind.CALLS, RateKind.UPLOADS) if is_upload else (RateKind.CALLS,)
            await self._limiter.admit_call(current_principal(), *kinds)
        return await proceed(requests, context)

    def _is_look_up_of_peer(self, call: Call, context: Any) -> bool:
        return (
            bool(self._peers)
            and call.service == _REPOSITORY
            and call.method in _LOOK_UPS
            and service_of(context.auth_context(), self._peers) is not None
        )
