"""The check that a server without keys or without TLS stays on loopback."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from sluice_common.security.exposure import check_exposure
from sluice_common.settings import SluiceSettings, load_settings
from sluice_core.addresses import Address
from sluice_core.configuration import ConfigurationError

EVERYWHERE = Address("0.0.0.0", 1)
INTAKE = "sluice.upload.v1.IntakeService"
SINK = "sluice.repository.v1.ChunkSinkService"
KEYS = {"mode": "jwt", "secret_file": "/run/secret", "audience": "sluice"}
TLS = {"cert_file": "/run/cert.pem", "key_file": "/run/key.pem"}
MTLS = {**TLS, "client_ca_file": "/run/ca.pem", "require_client_cert": True}


def settings(**groups: Any) -> SluiceSettings:
    return load_settings(**groups)


def check(used: SluiceSettings, kind: str, service: str = INTAKE) -> None:
    addresses: dict[str, Any] = {kind: {f"SLUICE_{kind.upper()}_ADDRESS": EVERYWHERE}}
    check_exposure(used, services=[service], **addresses)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_needs_no_protection(host: str) -> None:
    local = {"SLUICE_X_ADDRESS": Address(host, 1)}
    check_exposure(settings(), rpc=local, services=[INTAKE], metrics=local, channelz=local)


@pytest.mark.parametrize(
    ("groups", "kind", "service", "missing"),
    [
        ({}, "rpc", INTAKE, "SLUICE_AUTH__MODE=jwt"),
        ({"auth": KEYS}, "rpc", INTAKE, "SLUICE_TLS__CERT_FILE"),
        ({"tls": MTLS}, "rpc", INTAKE, "SLUICE_AUTH__MODE=jwt"),
        ({"auth": KEYS, "tls": MTLS}, "rpc", SINK, "SLUICE_TLS__PEERS"),
        ({"auth": KEYS}, "rpc", SINK, "SLUICE_TLS__CERT_FILE"),
        ({"auth": KEYS}, "metrics", INTAKE, "SLUICE_TLS__CERT_FILE"),
        ({"auth": KEYS, "tls": TLS}, "channelz", INTAKE, "SLUICE_TLS__CLIENT_CA_FILE"),
    ],
)
def test_public_address_without_protection_is_refused(
    groups: dict[str, Any], kind: str, service: str, missing: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check(settings(**groups), kind, service)
    assert f"SLUICE_{kind.upper()}_ADDRESS" in str(caught.value)
    assert missing in str(caught.value)
    assert "\n" not in str(caught.value)
    check(settings(**groups, allow_insecure=True), kind, service)


@pytest.mark.parametrize(
    ("groups", "kind", "service"),
    [
        ({"auth": KEYS, "tls": TLS}, "rpc", INTAKE),
        ({"tls": {**MTLS, "peers": ["intake"]}}, "rpc", SINK),
        ({"tls": TLS}, "metrics", INTAKE),
        ({"tls": MTLS}, "channelz", INTAKE),
    ],
)
def test_public_address_with_protection_is_accepted(
    groups: dict[str, Any], kind: str, service: str
) -> None:
    check(settings(**groups), kind, service)


def test_allow_insecure_warns_even_on_loopback() -> None:
    with capture_logs() as logs:
        check_exposure(settings(allow_insecure=True), rpc={}, services=[INTAKE])
    assert [(line["event"], line["log_level"]) for line in logs] == [("security.waived", "warning")]
    with capture_logs() as logs:
        check_exposure(settings(), rpc={}, services=[INTAKE])
    assert logs == []
