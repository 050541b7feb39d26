"""The layer that checks the scope of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sluice_core.access.actions import GUARDED_SERVICES, Action
from sluice_core.access.decisions import check_scope
from sluice_core.access.principal import current_principal

if TYPE_CHECKING:  # the interceptors import this module
    from sluice_common.rpc.interceptors import Call, Proceed


class ScopeCheck:
    """Refuses calls of the users' services whose token lacks the scope, before a message is read.

    Handlers decide the rest, when they know the drive. A method without an `Action` is a defect,
    and nobody may call it.
    """

    async def around(self, call: Call, requests: Any, context: Any, proceed: Proceed) -> Any:
        if call.service in GUARDED_SERVICES:
            check_scope(current_principal(), Action(call.method)).enforce()
        return await proceed(requests, context)
