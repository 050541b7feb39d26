"""Authentication of HTTP requests by their `Authorization` header."""

from __future__ import annotations

import structlog
from starlette.requests import HTTPConnection

from sluice_common.security.authentication import Authenticator
from sluice_core.access.principal import LOCAL_PRINCIPAL, Principal, set_principal
from sluice_core.errors import Unauthenticated


class Authentication:
    """Authenticates requests.

    Routes call it. It is not a layer, because some routes are public; a route that omits the call
    has no principal to work with.

    Args:
        authenticator: verifies tokens.
        is_keyless: whether a request without a token is the local principal's.
    """

    def __init__(self, authenticator: Authenticator, *, is_keyless: bool = False) -> None:
        self._authenticator = authenticator
        self._is_keyless = is_keyless

    async def __call__(self, connection: HTTPConnection) -> Principal:
        """Return the principal, and bind it to the request and its log lines.

        Raise `Unauthenticated` NO_CREDENTIALS, BAD_TOKEN, TOKEN_EXPIRED, AMBIGUOUS_CREDENTIALS;
        `Unavailable` AUTH_KEYS_UNAVAILABLE.
        """
        headers = connection.headers.getlist("authorization")
        if len(headers) > 1:
            # Proxies may disagree on which of them counts.
            raise Unauthenticated("AMBIGUOUS_CREDENTIALS", "Send exactly one authorization header.")
        if not headers and self._is_keyless:
            principal = LOCAL_PRINCIPAL
        else:
            principal = await self._authenticator.authenticate(headers[0] if headers else None)
        set_principal(principal, headers[0] if headers else None)
        structlog.contextvars.bind_contextvars(tenant=principal.tenant, userId=principal.subject)
        return principal
