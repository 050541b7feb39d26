"""Layer that counts every call of a caller against the rate limits."""

from __future__ import annotations

from typing import Any, Final

from sluice.upload.v1 import upload_pb2
from sluice_common.rates.limiter import RateLimiter
from sluice_common.rpc.interceptors import PUBLIC_SERVICES, Call, Proceed
from sluice_common.security.peers import INTERNAL_SERVICES
from sluice_core.access.principal import current_principal
from sluice_core.rates.model import RateKind

_EXEMPT: Final = PUBLIC_SERVICES | INTERNAL_SERVICES
"""Health and reflection have no caller; chunks on their way between services were counted when they
came in."""

_INTAKE: Final = upload_pb2.DESCRIPTOR.services_by_name["IntakeService"].full_name


class RateLimiting:
    """Refuses calls above the rate, after authentication and before the request is read."""

    def __init__(self, limiter: RateLimiter) -> None:
        self._limiter = limiter

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        if call.service not in _EXEMPT:
            is_upload = call.method == "InitiateUpload" and call.service == _INTAKE
            kinds = (RateKind.CALLS, RateKind.UPLOADS) if is_upload else (RateKind.CALLS,)
            await self._limiter.admit_call(current_principal(), *kinds)
        return await proceed(requests, context)
