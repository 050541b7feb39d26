"""The options of the gateway: sizes, times, and who may call it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sluice_core.uploads.model import MIB
from sluice_gateway.auth.guess_limits import GuessRates

ADDRESS: Final = "SLUICE_GATEWAY_ADDRESS"
SERVICE_NAME: Final = "sluice.gateway"
"""Name of the HTTP API where services are listed by name."""


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Options of the HTTP API.

    issuer: public URL of this gateway, `iss` of its tokens.
    has_accounts: whether this gateway is the issuer of the tokens that it accepts.
    is_keyless: whether requests need no token.
    loopback_names_only: whether `Host` has to name this machine.
    is_https: whether users reach it by HTTPS.
    origins: further origins whose pages may use the API.
    own_origins: origins of the gateway's own pages, which may open WebSockets too.
    object_origins: origins of the object store, for the policy of the panel's pages.
    trusted_proxies: addresses and networks of proxies in front of it.
    connections_per_address: open ones of one address; 0: no limit.
    home_prefix: key prefix of the drives of users.
    home_bucket: bucket of these drives.
    """

    issuer: str
    audience: str
    tenant_claim: str = "tenant"
    has_accounts: bool = True
    is_keyless: bool = False
    loopback_names_only: bool = False
    is_https: bool = False
    origins: tuple[str, ...] = ()
    own_origins: tuple[str, ...] = ()
    object_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    connections_per_address: int = 1_000
    max_body_bytes: int = MIB
    max_bodies_bytes: int = 64 * MIB
    """Of all requests in progress."""
    body_seconds: float = 30.0
    access_token_seconds: float = 900.0
    refresh_token_seconds: float = 30 * 24 * 3600.0
    refresh_repeat_seconds: float = 10.0
    guess_rates: GuessRates = field(default_factory=GuessRates)
    home_prefix: str = "local/"
    home_bucket: str = "sluice"
