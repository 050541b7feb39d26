"""Authentication of HTTP requests by their `Authorization` header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import structlog
from starlette.requests import HTTPConnection

from sluice_common.security.authentication import Authenticator, is_key_withdrawn
from sluice_common.security.refusals import ambiguous_credentials
from sluice_core.access.principal import LOCAL_PRINCIPAL, Principal, set_principal

_PRINCIPAL: Final = "sluice.principal"
_MAX_ID_CHARACTERS: Final = 64


class KeylessAuthenticator:
    """Authenticator of a keyless server: without a token the caller is the local principal.

    Args:
        tokens: verifies those that are sent nevertheless.
    """

    def __init__(self, tokens: Authenticator) -> None:
        self._tokens = tokens

    async def authenticate(self, authorization: str | None) -> Principal:
        """Return the principal. Raise what the verification of a token raises."""
        if authorization is None:
            return LOCAL_PRINCIPAL
        return await self._tokens.authenticate(authorization)

    def holds_key(self, principal: Principal) -> bool:
        """Return whether the key of the principal's token is still in use; without one, True."""
        return principal.key is None or not is_key_withdrawn(self._tokens, principal)


class Authentication:
    """Authenticates requests.

    Routes call it. It is not a layer, because some routes are public; a route that omits the call
    has no principal to work with.

    Args:
        authenticator: verifies tokens.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self.authenticator = authenticator

    async def __call__(self, connection: HTTPConnection) -> Principal:
        """Return the principal, and bind it to the request and its log lines.

        A token is verified once for each request, however often this is called.

        Raise `Unauthenticated` NO_CREDENTIALS, BAD_TOKEN, TOKEN_EXPIRED, AMBIGUOUS_CREDENTIALS;
        `Unavailable` AUTH_KEYS_UNAVAILABLE.
        """
        if (known := principal_of(connection.scope)) is not None:
            return known
        headers = connection.headers.getlist("authorization")
        if len(headers) > 1:
            raise ambiguous_credentials()
        principal = await self.authenticator.authenticate(headers[0] if headers else None)
        connection.scope[_PRINCIPAL] = principal
        set_principal(principal, headers[0] if headers else None)
        structlog.contextvars.bind_contextvars(
            tenant=principal.tenant, userId=principal.subject, **_named_by(connection.path_params)
        )
        return principal


def _named_by(path_params: Mapping[str, Any]) -> dict[str, str]:
    """Return what the path names, to be found in each log line of the request."""
    return {
        name: str(path_params[name])[:_MAX_ID_CHARACTERS]
        for name in ("jobId", "photoId")
        if name in path_params
    }


def principal_of(scope: Mapping[str, Any]) -> Principal | None:
    """Return the principal of a request, None before its authentication."""
    principal: Principal | None = scope.get(_PRINCIPAL)
    return principal
