"""An authenticator that knows one token."""

from __future__ import annotations

from sluice_common.errors import Unauthenticated
from sluice_common.security.principal import Principal

GOOD = (("authorization", "Bearer good"),)


class Doorkeeper:
    """Lets `Bearer good` in, as acme's ann."""

    async def authenticate(self, authorization: str | None) -> Principal:
        if authorization != "Bearer good":
            raise Unauthenticated("BAD_CREDENTIALS", "Send a token.")
        return Principal("acme", "ann", frozenset())
