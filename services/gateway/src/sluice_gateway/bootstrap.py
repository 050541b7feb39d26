"""Composition root of the gateway: the only place that constructs what its routes work with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from sluice_common.rates.opening import open_rate_buckets
from sluice_common.security.authentication import Authenticator
from sluice_common.security.claims import ClaimRules
from sluice_common.security.metrics import TokenMetrics
from sluice_common.security.opening import open_authenticator
from sluice_common.security.tokens import JwtAuthenticator
from sluice_common.settings import SluiceSettings
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.object_listener import ObjectCreated
from sluice_core.ports.rate_buckets import RateBuckets
from sluice_gateway.auth.access_tokens import AccessTokens, TokenTerms
from sluice_gateway.auth.accounts import Accounts
from sluice_gateway.auth.guess_limits import GuessLimits
from sluice_gateway.auth.homes import CatalogueHomes
from sluice_gateway.auth.key_file import SigningKeys, open_signing_keys
from sluice_gateway.auth.passwords import Passwords
from sluice_gateway.auth.sessions import Sessions
from sluice_gateway.backends import GatewayBackends
from sluice_gateway.backlogs import measuring
from sluice_gateway.deps import GatewayDeps
from sluice_gateway.housekeeping import purging
from sluice_gateway.http.authentication import Authentication, KeylessAuthenticator
from sluice_gateway.http.operations import Readiness
from sluice_gateway.jobs.announcements import Announcer
from sluice_gateway.jobs.idempotency import RepeatableRequests
from sluice_gateway.jobs.limits import UserLimits
from sluice_gateway.jobs.multiparts import Multiparts
from sluice_gateway.jobs.ports import Reprocessing
from sluice_gateway.jobs.pressure import BackPressure
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.jobs.signing import ObjectUrls
from sluice_gateway.jobs.url_audit import UrlAudit
from sluice_gateway.live.hub import LiveHub
from sluice_gateway.live.looking import looking
from sluice_gateway.live.options import LiveOptions
from sluice_gateway.live.origins import Origins
from sluice_gateway.live.progress import ProgressBatches
from sluice_gateway.live.sessions import Sessions as LiveSessions
from sluice_gateway.metrics import GatewayMetrics
from sluice_gateway.options import GatewayOptions
from sluice_gateway.panel.files import bundled_files
from sluice_gateway.projection.topics import CatalogueTopics
from sluice_gateway.settings import keys_file, photo_options, pressure_limits, rotation_policy
from sluice_gateway.tus.headers import PREFIX


@dataclass(frozen=True, slots=True)
class PhotoHooks:
    """What becomes of objects. They are processed elsewhere, perhaps in another process.

    reprocessing: None where no processor follows the events.
    """

    object_created: ObjectCreated
    reprocessing: Reprocessing | None


@asynccontextmanager
async def open_gateway(
    settings: SluiceSettings,
    options: GatewayOptions,
    backends: GatewayBackends,
    hooks: PhotoHooks | None,
    metrics: GatewayMetrics,
    is_ready: Readiness,
) -> AsyncIterator[GatewayDeps]:
    """Open what the routes work with; close it in reverse order.

    Args:
        hooks: None for a gateway without jobs and photos.

    Raise `ConfigurationError` for keys that cannot be used.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        if hooks is not None:
            await asyncio.to_thread(bundled_files)  # reads and compresses
        catalogue = backends.catalogue
        await enter(purging(catalogue.purge_token_families, catalogue.purge_requests))
        buckets = await enter(open_rate_buckets(settings, metrics.registry))
        photos = None
        if hooks is not None:
            photos = await enter(_open_photos(settings, options, backends, hooks, buckets, metrics))
        if not options.has_accounts:
            authenticator = await enter(
                open_authenticator(
                    settings.auth, metrics.registry, allow_insecure=settings.allow_insecure
                )
            )
            deps = _deps(authenticator, metrics, options, is_ready, backends, photos)
            assert deps.hub is not None
            await enter(looking(deps.hub))
            yield deps
            return
        policy = rotation_policy(settings)
        keys = await enter(open_signing_keys(keys_file(settings), policy, metrics.accounts))
        terms = TokenTerms(
            options.issuer, options.audience, options.tenant_claim, options.access_token_seconds
        )
        rules = ClaimRules(options.audience, options.issuer, options.tenant_claim)
        counts = metrics.registry.group(TokenMetrics)
        verifier: Authenticator = JwtAuthenticator(keys, rules, counts)
        if options.is_keyless:
            verifier = KeylessAuthenticator(verifier)
        accounts = await enter(_open_accounts(options, catalogue, buckets, keys, terms, metrics))
        deps = _deps(verifier, metrics, options, is_ready, backends, photos)
        assert deps.hub is not None
        await enter(looking(deps.hub))
        yield replace(deps, accounts=accounts, keys=keys, terms=terms)


@asynccontextmanager
async def _open_photos(
    settings: SluiceSettings,
    options: GatewayOptions,
    backends: GatewayBackends,
    hooks: PhotoHooks,
    buckets: RateBuckets,
    metrics: GatewayMetrics,
) -> AsyncIterator[PhotoServices]:
    """Open what the commands and queries of jobs and photos work with."""
    catalogue, objects, live = backends.catalogue, backends.objects, backends.live
    assert objects is not None, "photos need a store"
    limits = photo_options(settings, tus_path=PREFIX)
    progress = ProgressBatches(live, metrics.live)
    pressure = BackPressure(pressure_limits(settings), catalogue, metrics.pressure)
    async with measuring(settings, pressure), asyncio.TaskGroup() as group:
        flushing = group.create_task(progress.run(), name="progress")
        try:
            yield PhotoServices(
                catalogue=catalogue,
                homes=CatalogueHomes(catalogue, options.home_bucket, options.home_prefix),
                urls=ObjectUrls(objects, limits),
                multiparts=Multiparts(objects, catalogue),
                object_created=hooks.object_created,
                reprocessing=hooks.reprocessing,
                updates=live,
                announcer=Announcer(catalogue, live),
                progress=progress,
                limits=UserLimits(
                    buckets,
                    metrics.rates,
                    jobs_per_minute=limits.jobs_per_minute,
                    progress_per_second=limits.progress_per_second,
                ),
                pressure=pressure,
                repeatable=RepeatableRequests(catalogue, limits),
                url_audit=UrlAudit(catalogue),
                metrics=metrics.jobs,
                options=limits,
            )
        finally:
            flushing.cancel()


def _deps(
    authenticator: Authenticator,
    metrics: GatewayMetrics,
    options: GatewayOptions,
    is_ready: Readiness,
    backends: GatewayBackends,
    photos: PhotoServices | None,
) -> GatewayDeps:
    """Return the dependencies that every gateway has."""
    live = LiveOptions()
    hub = LiveHub(
        backends.live,
        CatalogueTopics(backends.catalogue),
        authenticator,
        Origins((*options.own_origins, *options.origins)),
        LiveSessions(live),
        live,
        metrics.live,
    )
    return GatewayDeps(
        Authentication(authenticator),
        metrics,
        options,
        is_ready,
        photos=photos,
        hub=hub,
        # Pages show photos: a gateway that only issues tokens has none.
        panel=None if photos is None else bundled_files(),
    )


@asynccontextmanager
async def _open_accounts(
    options: GatewayOptions,
    catalogue: GatewayCatalogue,
    buckets: RateBuckets,
    keys: SigningKeys,
    terms: TokenTerms,
    metrics: GatewayMetrics,
) -> AsyncIterator[Accounts]:
    passwords = await asyncio.to_thread(Passwords, metrics.accounts.password_seconds)
    try:
        yield Accounts(
            users=catalogue,
            homes=CatalogueHomes(catalogue, options.home_bucket, options.home_prefix),
            sessions=Sessions(
                catalogue,
                AccessTokens(keys, terms),
                options.refresh_token_seconds,
                options.refresh_repeat_seconds,
            ),
            passwords=passwords,
            limits=GuessLimits(buckets, options.guess_rates, metrics.rates),
            metrics=metrics.accounts,
        )
    finally:
        await asyncio.to_thread(passwords.close)
