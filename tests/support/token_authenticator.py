"""An authenticator that knows one token."""

from __future__ import annotations

from sluice_core.access.principal import Principal
from sluice_core.errors import Unauthenticated

GOOD = (("authorization", "Bearer good"),)


class TokenAuthenticator:
    """Lets `Bearer good` in, as acme's ann."""

    async def authenticate(self, authorization: str | None) -> Principal:
        if authorization != "Bearer good":
            raise Unauthenticated("BAD_CREDENTIALS", "Send a token.")
        return Principal("acme", "ann", frozenset())
