"""The layer that admits other Sluice services, and nobody else, to the services between them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import structlog

from sluice_common.security.peers import INTERNAL_SERVICES, service_of
from sluice_core.errors import PermissionDenied

if TYPE_CHECKING:
    from sluice_common.rpc.interceptors import Call, Proceed


class InternalServices:
    """Admits to `INTERNAL_SERVICES` the peers whose certificate names them.

    Args:
        peers: names of services (`SLUICE_TLS__PEERS`). A server without any has no such layer and
            listens where only services are; `check_exposure` makes sure of that.
    """

    def __init__(self, peers: Collection[str]) -> None:
        self._peers = frozenset(peers)

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        """Raise `PermissionDenied` NOT_A_SERVICE for any other caller."""
        if call.service in INTERNAL_SERVICES:
            service = service_of(context.auth_context(), self._peers)
            if service is None:
                raise PermissionDenied(
                    "NOT_A_SERVICE",
                    "Only Sluice services may call this; use a certificate whose name the server"
                    " lists.",
                )
            structlog.contextvars.bind_contextvars(service=service.name)
        return await proceed(requests, context)
