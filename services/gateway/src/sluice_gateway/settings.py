"""Conversion of the process settings to the options of the gateway."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from sluice_backends.s3.addressing import signed_urls_origin
from sluice_common.process.data_dir import DataDir
from sluice_common.settings import SluiceSettings
from sluice_common.settings.security import AuthMode
from sluice_core.addresses import Address
from sluice_core.combinations import Objects
from sluice_gateway.auth.guess_limits import GuessRates
from sluice_gateway.auth.signing_keys import Algorithm, RotationPolicy
from sluice_gateway.http.connections import Connections
from sluice_gateway.http.origins import normalized_origin
from sluice_gateway.http.server import HttpOptions
from sluice_gateway.jobs.options import PhotoOptions
from sluice_gateway.jobs.pressure import PressureLimits
from sluice_gateway.options import GatewayOptions
from sluice_gateway.projection.sweeper import SweepOptions

_DAY_SECONDS = 24 * 3600.0
DEFAULT_AUDIENCE = "sluice"
PUBLISH_SECONDS = 600.0
"""Twice as long as verifiers keep the keys."""


def gateway_options(settings: SluiceSettings, address: Address) -> GatewayOptions:
    """Return the options of the settings.

    Args:
        address: where the gateway listens; its public URL unless one is set.
    """
    gateway, auth = settings.gateway, settings.auth
    scheme = "http" if settings.tls.cert_file is None else "https"
    issuer = gateway.public_url or f"{scheme}://{address}"
    is_keyless = auth.mode is AuthMode.NONE
    return GatewayOptions(
        issuer=issuer,
        audience=auth.audience or DEFAULT_AUDIENCE,
        tenant_claim=auth.tenant_claim,
        # Tokens of this gateway are of use where the gRPC services accept them.
        has_accounts=is_keyless or auth.issuer == issuer,
        is_keyless=is_keyless,
        # In a container it listens on all addresses, and its port is published on loopback.
        loopback_names_only=is_keyless and (address.is_loopback or _is_loopback_url(issuer)),
        is_https=issuer.startswith("https://"),
        origins=gateway.origins,
        own_origins=_own_origins(issuer, address),
        object_origins=_object_origins(settings),
        trusted_proxies=gateway.trusted_proxies,
        connections_per_address=gateway.connections_per_address,
        access_token_seconds=gateway.access_token_seconds,
        refresh_token_seconds=gateway.refresh_token_days * _DAY_SECONDS,
        refresh_repeat_seconds=gateway.refresh_repeat_seconds,
        guess_rates=GuessRates(
            per_pair=gateway.pair_guesses_per_minute,
            per_account=gateway.account_guesses_per_minute,
            per_address=gateway.address_guesses_per_minute,
        ),
        home_prefix=f"{gateway.environment}/",
        home_bucket=settings.bucket,
    )


def _is_loopback_url(url: str) -> bool:
    parts = urlsplit(url)
    return Address(parts.hostname or "", parts.port or 0).is_loopback


def http_options(options: GatewayOptions) -> HttpOptions:
    """Return how the connections of the gateway are accepted."""
    proxies = options.trusted_proxies
    return HttpOptions(
        proxies, Connections(of_address=options.connections_per_address, proxies=proxies)
    )


def _own_origins(issuer: str, address: Address) -> tuple[str, ...]:
    """Return the origins of the gateway's own pages.

    On a loopback address people write `localhost` too.
    """
    if not address.is_loopback:
        return (issuer,)
    scheme = issuer.partition(":")[0]
    return tuple(dict.fromkeys((issuer, f"{scheme}://localhost:{address.port}")))


def _object_origins(settings: SluiceSettings) -> tuple[str, ...]:
    """Return the origins to which pages send photos: those set, and that of signed URLs of S3."""
    named = settings.gateway.object_origins
    if settings.objects is not Objects.S3:
        return named
    own = normalized_origin(signed_urls_origin(settings.s3.to_options(), settings.bucket))
    return named if own is None else tuple(dict.fromkeys((*named, own)))


def sweep_options(settings: SluiceSettings) -> SweepOptions:
    """Return when photos that got stuck are looked for."""
    gateway = settings.gateway
    return SweepOptions(
        interval_seconds=gateway.sweep_interval_seconds,
        arrival_seconds=gateway.photo_arrival_seconds,
    )


def photo_options(settings: SluiceSettings, *, tus_path: str = "") -> PhotoOptions:
    """Return the options of jobs and photos.

    Args:
        tus_path: where uploads by tus begin; empty where there are none.
    """
    gateway = settings.gateway
    return PhotoOptions(
        jobs_per_minute=gateway.jobs_per_minute,
        progress_per_second=gateway.progress_per_second,
        max_photo_bytes=gateway.max_photo_bytes,
        upload_url_seconds=gateway.upload_url_seconds,
        download_url_seconds=gateway.download_url_seconds,
        tus_path=tus_path,
        tus_above_bytes=gateway.tus_above_bytes,
        claim_seconds=gateway.claim_seconds,
    )


def pressure_limits(settings: SluiceSettings) -> PressureLimits:
    """Return what may wait before new jobs are refused."""
    gateway = settings.gateway
    return PressureLimits(
        photos=gateway.max_waiting_photos,
        events=gateway.max_waiting_events,
        messages=gateway.max_waiting_messages,
        database_seconds=gateway.max_database_wait_seconds,
        retry_seconds=gateway.pressure_retry_seconds,
    )


def rotation_policy(settings: SluiceSettings) -> RotationPolicy:
    """Return when the signing keys change."""
    gateway = settings.gateway
    return RotationPolicy(
        Algorithm(gateway.algorithm),
        rotation_seconds=gateway.key_rotation_days * _DAY_SECONDS,
        publish_seconds=PUBLISH_SECONDS,
        token_seconds=gateway.access_token_seconds,
    )


def keys_file(settings: SluiceSettings) -> Path:
    """Return the file with the signing keys."""
    return settings.gateway.keys_file or DataDir(settings.data_dir).gateway_keys
