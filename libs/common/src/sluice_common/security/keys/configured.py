"""The keys of the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from sluice_common.security.keys.files import FileKeys
from sluice_common.security.keys.key_ring import UnusableKeys, key_set, secret_key
from sluice_common.security.keys.refreshing import KeyLoader, RefreshedKeys
from sluice_common.security.metrics import TokenMetrics
from sluice_common.settings.security import Auth
from sluice_core.configuration import ConfigurationError


@asynccontextmanager
async def open_keys(
    auth: Auth,
    metrics: TokenMetrics,
    *,
    allow_insecure: bool,
    require_strong: bool,
    clock: Callable[[], float],
) -> AsyncIterator[RefreshedKeys]:
    """Load the keys once and refresh them while the block runs.

    Raise `ConfigurationError` for a file without usable keys, or another issuer's document.
    """
    async with AsyncExitStack() as stack:
        setting, loader = await _open_loader(auth, allow_insecure, require_strong, stack)
        keys = RefreshedKeys(loader, metrics, clock=clock)
        if auth.issuer is None:
            try:
                await keys.load()
            except UnusableKeys as error:
                raise ConfigurationError(f"{setting}: {error}") from None
        else:
            await _load_from_issuer(keys, setting)
        await stack.enter_async_context(keys.refreshing())
        yield keys


async def _open_loader(
    auth: Auth, allow_insecure: bool, require_strong: bool, stack: AsyncExitStack
) -> tuple[str, KeyLoader]:
    if auth.secret_file is not None:
        return "SLUICE_AUTH__SECRET_FILE", FileKeys(
            auth.secret_file, partial(secret_key, require_strong=require_strong)
        )
    if auth.jwks_file is not None:
        return "SLUICE_AUTH__JWKS_FILE", FileKeys(auth.jwks_file, key_set)
    # Imported only for a provider: the HTTP client needs several megabytes.
    from sluice_common.security.keys.issuer import is_secure_url, open_issuer

    setting, issuer = "SLUICE_AUTH__ISSUER", auth.issuer
    assert issuer is not None, "Auth requires a source of keys"
    if not allow_insecure and not is_secure_url(issuer):
        raise ConfigurationError(f"{setting}: must be an https:// address")
    opened = open_issuer(issuer, allow_insecure=allow_insecure)
    return setting, await stack.enter_async_context(opened)


async def _load_from_issuer(keys: RefreshedKeys, setting: str) -> None:
    """Load the keys; an outage of the issuer does not end the start."""
    from sluice_common.security.keys.issuer import ForeignIssuer

    try:
        await keys.load()
    except ForeignIssuer as error:
        raise ConfigurationError(f"{setting}: {error}") from None
    except UnusableKeys as error:
        keys.report(error)
