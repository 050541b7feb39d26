"""Principal of the current request: set by the authentication interceptor, read by handlers."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field

from sluice_core.access.scopes import Scope
from sluice_core.errors import Unauthenticated

DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class Principal:
    """Tenant and subject of a request, and what their token allows.

    `drives`: drive names, or prefixes that end in `*`, to which the token is limited; empty means
    every drive. `groups`: groups of the subject, for grants. `expires_at`: Unix seconds, None for
    a principal without a token. `key`: thumbprint of the key that signed the token, if any did.
    """

    tenant: str
    subject: str
    scopes: frozenset[str]
    drives: tuple[str, ...] = ()
    groups: frozenset[str] = frozenset()
    expires_at: float | None = None
    key: str | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ServicePrincipal:
    """Another Sluice service. `name`: the name in its certificate that the server lists."""

    name: str


LOCAL_PRINCIPAL = Principal(DEFAULT_TENANT, "local", frozenset({Scope.TENANT_ADMIN}))
"""Principal of every request to a server without keys, which listens on loopback only."""

_current: ContextVar[Principal | None] = ContextVar("sluice_principal", default=None)
_authorization: ContextVar[str | None] = ContextVar("sluice_authorization", default=None)


def set_principal(principal: Principal, authorization: str | None = None) -> None:
    """Bind the principal to the current task. Only the authentication interceptor calls this.

    `authorization`: the header that proves who it is, see `current_authorization`.
    """
    _current.set(principal)
    _authorization.set(authorization)


def find_principal() -> Principal | None:
    """Return the principal of the current request, None without one."""
    return _current.get()


def current_principal() -> Principal:
    """Return the principal of the current request; raise `Unauthenticated` without one."""
    principal = _current.get()
    if principal is None:
        raise Unauthenticated("NO_CREDENTIALS", "The request carries no credentials.")
    return principal


def current_authorization() -> str | None:
    """Return the `authorization` header of the current request, None without one.

    Only for calls to other Sluice services on the caller's behalf. It is a secret: never log it.
    """
    return _authorization.get()
