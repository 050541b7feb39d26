"""Settings of TLS: what belongs together, and the list of peers."""

from __future__ import annotations

import pytest

from sluice_common.settings import format_settings, load_settings
from sluice_core.configuration import ConfigurationError

CERTIFICATE = {"CERT_FILE": "cert.pem", "KEY_FILE": "key.pem"}
MTLS = {**CERTIFICATE, "CLIENT_CA_FILE": "ca.pem", "REQUIRE_CLIENT_CERT": "true"}


def set_tls(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"SLUICE_TLS__{name}", value)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"CERT_FILE": "cert.pem"}, "belong together"),
        ({"KEY_FILE": "key.pem"}, "belong together"),
        ({"CLIENT_CA_FILE": "ca.pem"}, "needs cert_file"),
        ({**CERTIFICATE, "CLIENT_CA_FILE": "ca.pem"}, "SLUICE_TLS__REQUIRE_CLIENT_CERT=true"),
        ({**CERTIFICATE, "REQUIRE_CLIENT_CERT": "true"}, "need client_ca_file"),
        ({**CERTIFICATE, "PEERS": "intake"}, "need client_ca_file"),
        ({**MTLS, "PEERS": "*.sluice.svc"}, "exact names only"),
        ({**MTLS, "PEERS": "spiffe://cluster/*"}, "exact names only"),
        ({**MTLS, "PEERS": "intake repository"}, "exact names only"),
    ],
)
def test_incomplete_settings_are_refused(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], problem: str
) -> None:
    """No setting may be without effect."""
    set_tls(monkeypatch, values)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        load_settings()
    assert "SLUICE_TLS" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["spiffe://cluster/intake,intake.svc", " intake.svc , spiffe://cluster/intake,"]
)
def test_peers_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    set_tls(monkeypatch, {**MTLS, "PEERS": text})
    settings = load_settings()
    assert settings.tls.peers == {"spiffe://cluster/intake", "intake.svc"}
    shown = format_settings(settings).splitlines()
    assert "SLUICE_TLS__PEERS=intake.svc,spiffe://cluster/intake" in shown


@pytest.mark.parametrize(
    ("values", "secures"), [({}, False), ({"CA_FILE": "ca.pem"}, True), (CERTIFICATE, True)]
)
def test_calls_use_tls_with_any_certificate_or_authority(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], secures: bool
) -> None:
    set_tls(monkeypatch, values)
    assert load_settings().tls.secures_calls is secures


def test_service_address_without_client_certificates_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="SLUICE_SERVICE_ADDRESS"):
        load_settings(service_address="127.0.0.1:0")
