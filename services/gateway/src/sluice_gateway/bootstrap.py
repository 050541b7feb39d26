"""Composition root of the gateway: the only place that constructs what its routes work with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from sluice_common.rates.opening import open_rate_buckets
from sluice_common.security.claims import ClaimRules
from sluice_common.security.metrics import TokenMetrics
from sluice_common.security.opening import open_authenticator
from sluice_common.security.tokens import JwtAuthenticator
from sluice_common.settings import SluiceSettings
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_gateway.auth.access_tokens import AccessTokens, TokenTerms
from sluice_gateway.auth.accounts import Accounts
from sluice_gateway.auth.guess_limits import GuessLimits
from sluice_gateway.auth.homes import CatalogueHomes
from sluice_gateway.auth.key_file import SigningKeys, open_signing_keys
from sluice_gateway.auth.passwords import Passwords
from sluice_gateway.auth.sessions import Sessions
from sluice_gateway.deps import GatewayDeps
from sluice_gateway.housekeeping import purging
from sluice_gateway.http.authentication import Authentication
from sluice_gateway.metrics import GatewayMetrics
from sluice_gateway.options import GatewayOptions
from sluice_gateway.settings import keys_file, rotation_policy


@asynccontextmanager
async def open_gateway(
    settings: SluiceSettings,
    options: GatewayOptions,
    catalogue: GatewayCatalogue,
    metrics: GatewayMetrics,
    is_ready: Callable[[], Awaitable[bool]],
) -> AsyncIterator[GatewayDeps]:
    """Open what the routes work with; close it in reverse order.

    Raise `ConfigurationError` for keys that cannot be used.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(purging(catalogue.purge_token_families, catalogue.purge_requests))
        if not options.has_accounts:
            authenticator = await enter(
                open_authenticator(
                    settings.auth, metrics.registry, allow_insecure=settings.allow_insecure
                )
            )
            yield GatewayDeps(Authentication(authenticator), metrics, options, is_ready)
            return
        policy = rotation_policy(settings)
        keys = await enter(open_signing_keys(keys_file(settings), policy, metrics.accounts))
        terms = TokenTerms(
            options.issuer, options.audience, options.tenant_claim, options.access_token_seconds
        )
        rules = ClaimRules(options.audience, options.issuer, options.tenant_claim)
        verifier = JwtAuthenticator(keys, rules, metrics.registry.group(TokenMetrics))
        accounts = await enter(_open_accounts(settings, options, catalogue, keys, terms, metrics))
        yield GatewayDeps(
            Authentication(verifier, is_keyless=options.is_keyless),
            metrics,
            options,
            is_ready,
            accounts,
            keys,
            terms,
        )


@asynccontextmanager
async def _open_accounts(
    settings: SluiceSettings,
    options: GatewayOptions,
    catalogue: GatewayCatalogue,
    keys: SigningKeys,
    terms: TokenTerms,
    metrics: GatewayMetrics,
) -> AsyncIterator[Accounts]:
    async with open_rate_buckets(settings, metrics.registry) as buckets:
        passwords = await asyncio.to_thread(Passwords, metrics.accounts.password_seconds)
        try:
            yield Accounts(
                users=catalogue,
                homes=CatalogueHomes(catalogue, options.home_bucket, options.home_prefix),
                sessions=Sessions(
                    catalogue, AccessTokens(keys, terms), options.refresh_token_seconds
                ),
                passwords=passwords,
                limits=GuessLimits(buckets, options.guess_rates, metrics.rates),
                metrics=metrics.accounts,
            )
        finally:
            await asyncio.to_thread(passwords.close)
