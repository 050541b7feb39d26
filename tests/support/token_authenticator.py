"""An authenticator that knows one token."""

from __future__ import annotations

from sluice_core.access.principal import Principal
from sluice_core.access.scopes import Scope
from sluice_core.errors import Unauthenticated

GOOD = (("authorization", "Bearer good"),)


class TokenAuthenticator:
    """Accepts `Bearer good` as the administrator `ann` of the tenant `acme`."""

    async def authenticate(self, authorization: str | None) -> Principal:
        if authorization != "Bearer good":
            raise Unauthenticated(
                "BAD_CREDENTIALS", "The token is missing or unknown; send a valid one."
            )
        return Principal("acme", "ann", frozenset({Scope.TENANT_ADMIN}))
