"""Who asks: one interceptor sets it, handlers read it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from sluice_core.errors import Unauthenticated

DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class Principal:
    """The tenant and subject behind a request, and what they may do."""

    tenant: str
    subject: str
    scopes: frozenset[str]


LOCAL_PRINCIPAL = Principal(DEFAULT_TENANT, "local", frozenset({"*"}))
"""Who everybody is on a standalone without keys (which then listens on loopback only)."""

_current: ContextVar[Principal | None] = ContextVar("sluice_principal", default=None)


def set_principal(principal: Principal) -> None:
    """Bind the principal to the current task; the authentication interceptor alone calls this."""
    _current.set(principal)


def current_principal() -> Principal:
    """The principal of the request in progress; raises `Unauthenticated` without one."""
    principal = _current.get()
    if principal is None:
        raise Unauthenticated("NO_CREDENTIALS", "The request carries no credentials.")
    return principal
