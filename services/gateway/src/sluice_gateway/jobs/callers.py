"""Callers of commands and queries: who they are, and whether their token allows it."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from sluice_core.access.audit import MAX_PEER_CHARACTERS, AuditEntry
from sluice_core.access.decisions import require_scope
from sluice_core.access.principal import Principal
from sluice_core.access.scopes import Scope
from sluice_core.live.updates import Audience
from sluice_core.photos.model import Owner
from sluice_gateway.http.authentication import Authentication
from sluice_gateway.http.request_context import request_id_of


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and where the call comes from."""

    principal: Principal
    request_id: str
    peer: str

    @property
    def owner(self) -> Owner:
        return Owner(self.principal.tenant, self.principal.subject)

    @property
    def audience(self) -> Audience:
        return Audience(self.principal.tenant, self.principal.subject)

    def audit(self, action: str, named: str) -> AuditEntry:
        """Return the entry of a change that this call makes, for the transaction of the change.

        Args:
            named: `photo/ID` or `job/ID`.
        """
        return AuditEntry(
            self.principal.tenant,
            self.principal.subject,
            action,
            named,
            request_id=self.request_id,
            peer=self.peer,
        )


class Callers:
    """Authenticates the callers of jobs and photos."""

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication

    async def reader(self, connection: HTTPConnection) -> Caller:
        """Return a caller with the scope `photos:read`.

        Raise what `Authentication` raises, and `PermissionDenied` MISSING_SCOPE.
        """
        return await self._caller(connection, Scope.PHOTOS_READ)

    async def either(self, connection: HTTPConnection) -> Caller:
        """Return a caller with `photos:read` or `photos:write`; raises as `reader` does."""
        return await self._caller(connection, Scope.PHOTOS_READ, Scope.PHOTOS_WRITE)

    async def writer(self, connection: HTTPConnection) -> Caller:
        """Return a caller with the scope `photos:write`; raises as `reader` does."""
        return await self._caller(connection, Scope.PHOTOS_WRITE)

    async def _caller(self, connection: HTTPConnection, scope: Scope, *others: Scope) -> Caller:
        """Return a caller with one of these scopes; a refusal names the first."""
        principal = await self._authentication(connection)
        if principal.scopes.isdisjoint(others):
            require_scope(principal, scope)
        peer = "" if connection.client is None else connection.client.host[:MAX_PEER_CHARACTERS]
        return Caller(principal, request_id_of(connection.scope), peer)
