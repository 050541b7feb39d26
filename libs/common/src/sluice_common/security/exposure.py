"""The check that a server without keys or without TLS stays on loopback."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import structlog

from sluice_common.security.peers import INTERNAL_SERVICES
from sluice_common.settings import SluiceSettings
from sluice_common.settings.security import AuthMode
from sluice_core.addresses import Address
from sluice_core.configuration import ConfigurationError

_KEYS: Final = "no keys (SLUICE_AUTH__MODE=jwt)"
_TLS: Final = "no TLS (SLUICE_TLS__CERT_FILE, SLUICE_TLS__KEY_FILE)"
_PEERS: Final = "no list of services (SLUICE_TLS__PEERS)"
_CLIENT_CERT: Final = "no client certificates (SLUICE_TLS__CLIENT_CA_FILE)"

_log = structlog.get_logger(__name__)


def check_exposure(
    settings: SluiceSettings,
    *,
    rpc: Mapping[str, Address] | None = None,
    services: Collection[str] = (),
    metrics: Mapping[str, Address] | None = None,
    channelz: Mapping[str, Address] | None = None,
) -> None:
    """Raise `ConfigurationError` for an address off loopback that lacks protection.

    Log a warning if SLUICE_ALLOW_INSECURE waives the check: the operator then states that the
    network itself restricts access.

    Args:
        rpc, metrics, channelz: addresses by the name of the setting that holds each. RPC needs
            keys and TLS, metrics and probes TLS alone (their data belongs to no tenant), channelz,
            which shows every peer, client certificates.
        services: full names of the RPC services. Those between services need no keys of users but
            a list of services.
    """
    if settings.allow_insecure:
        _log.warning(
            "security.waived",
            setting="SLUICE_ALLOW_INSECURE",
            advice="every peer that reaches this server may do everything; set keys and TLS",
        )
        return
    tls = [] if settings.tls.cert_file is not None else [_TLS]
    keys = [] if settings.auth.mode is not AuthMode.NONE else [_KEYS]
    peers = [] if settings.tls.peers else [_PEERS]
    client_cert = [] if settings.tls.client_ca_file is not None else [_CLIENT_CERT]
    needs_keys = any(name not in INTERNAL_SERVICES for name in services)
    needs_peers = any(name in INTERNAL_SERVICES for name in services)
    _refuse(rpc, [*(keys if needs_keys else ()), *tls, *(peers if needs_peers else ())])
    _refuse(metrics, tls)
    _refuse(channelz, [*tls, *client_cert])


def _refuse(addresses: Mapping[str, Address] | None, missing: list[str]) -> None:
    for setting, address in (addresses or {}).items():
        if missing and not address.is_loopback:
            raise ConfigurationError(
                f"{setting} is not a loopback address and this server has {' and '.join(missing)}:"
                " set them, use 127.0.0.1, or set SLUICE_ALLOW_INSECURE=true when the network"
                " itself keeps strangers out"
            )
