"""What the application works with, filled in by the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sluice_gateway.auth.access_tokens import TokenTerms
from sluice_gateway.auth.accounts import Accounts
from sluice_gateway.auth.key_file import SigningKeys
from sluice_gateway.http.authentication import Authentication
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.live.hub import LiveHub
from sluice_gateway.metrics import GatewayMetrics
from sluice_gateway.options import GatewayOptions
from sluice_gateway.panel.files import PanelFiles
from sluice_gateway.tus.server import TusServer


@dataclass(frozen=True, slots=True)
class GatewayDeps:
    """Dependencies of the routes.

    `accounts`, `keys` and `terms` are None where another issuer has the users. `is_ready`: whether
    the process accepts work now. `photos`, `hub`, `tus`, `panel`: None in a process without jobs
    and photos, live updates, resumable uploads, pages.
    """

    authentication: Authentication
    metrics: GatewayMetrics
    options: GatewayOptions
    is_ready: Callable[[], Awaitable[bool]]
    accounts: Accounts | None = None
    keys: SigningKeys | None = None
    terms: TokenTerms | None = None
    photos: PhotoServices | None = None
    hub: LiveHub | None = None
    tus: TusServer | None = None
    panel: PanelFiles | None = None
