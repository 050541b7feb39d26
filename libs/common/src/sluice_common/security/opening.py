"""The authenticator of the settings."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from sluice_backends.instruments import Registry
from sluice_common.security.authentication import Authenticator, LocalAuthenticator
from sluice_common.settings.security import Auth, AuthMode


@asynccontextmanager
async def open_authenticator(
    auth: Auth,
    registry: Registry,
    *,
    allow_insecure: bool = False,
    require_strong: bool = False,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Authenticator]:
    """Open the authenticator; refresh its keys while the block runs.

    An issuer that does not answer does not prevent the start: until it does, calls are refused with
    UNAVAILABLE. Unusable files, and an issuer that is not the one of the settings, do.

    Args:
        registry: of the metrics.
        allow_insecure: fetch keys over plain HTTP too.
        require_strong: refuse a secret that is easy to guess; false for development.
        clock: Unix seconds.

    Raise `ConfigurationError` for keys that cannot be used.
    """
    if auth.mode is AuthMode.NONE:
        yield LocalAuthenticator()
        return
    async with AsyncExitStack() as stack:
        yield await _open_jwt(auth, registry, allow_insecure, require_strong, clock, stack)


async def _open_jwt(
    auth: Auth,
    registry: Registry,
    allow_insecure: bool,
    require_strong: bool,
    clock: Callable[[], float],
    stack: AsyncExitStack,
) -> Authenticator:
    # Imported only where tokens are verified: the libraries of keys need several megabytes.
    from sluice_common.security.claims import ClaimRules
    from sluice_common.security.keys.configured import open_keys
    from sluice_common.security.metrics import TokenMetrics
    from sluice_common.security.tokens import JwtAuthenticator

    metrics = registry.group(TokenMetrics)
    keys = await stack.enter_async_context(
        open_keys(
            auth,
            metrics,
            allow_insecure=allow_insecure,
            require_strong=require_strong,
            clock=clock,
        )
    )
    assert auth.audience is not None, "Auth requires it"
    rules = ClaimRules(auth.audience, auth.issuer, auth.tenant_claim)
    return JwtAuthenticator(keys, rules, metrics, clock=clock)
