"""Listen addresses, and the loopback check of servers without keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.addresses import Address, require_loopback
from sluice_core.configuration import ConfigurationError


@given(
    host=st.ip_addresses().map(str) | st.sampled_from(["localhost", "intake.example"]),
    port=st.integers(0, 65535),
)
def test_address_round_trips(host: str, port: int) -> None:
    address = Address(host, port)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "50051", ":50051", "host:", "host:x", "host:-1", "host:65536", "::1:50051", "a:¹"]
)
def test_invalid_address_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        Address.parse(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    require_loopback({"SLUICE_INTAKE_ADDRESS": Address(host, 1)}, allow_insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "intake.example"])
def test_public_address_without_keys_needs_the_insecure_setting(host: str) -> None:
    addresses = {
        "SLUICE_METRICS_ADDRESS": Address("127.0.0.1", 1),
        "SLUICE_INTAKE_ADDRESS": Address(host, 1),
    }
    with pytest.raises(ConfigurationError) as caught:
        require_loopback(addresses, allow_insecure=False)
    assert "SLUICE_INTAKE_ADDRESS" in str(caught.value)
    assert "SLUICE_ALLOW_INSECURE=true" in str(caught.value)
    require_loopback(addresses, allow_insecure=True)


@pytest.mark.parametrize(
    ("has_keys", "has_tls", "missing"),
    [(False, False, "keys and TLS"), (True, False, "TLS"), (False, True, "keys")],
)
def test_public_address_needs_keys_and_tls(has_keys: bool, has_tls: bool, missing: str) -> None:
    """Keys alone do not do: everybody on the way could read the tokens."""
    addresses = {"INSIDE": Address("127.0.0.1", 1), "OUTSIDE": Address("10.0.0.1", 1)}
    with pytest.raises(ConfigurationError, match=f"OUTSIDE .* has no {missing}:"):
        require_loopback(addresses, allow_insecure=False, has_keys=has_keys, has_tls=has_tls)
    exposed = require_loopback(addresses, allow_insecure=True, has_keys=has_keys, has_tls=has_tls)
    assert exposed == ("OUTSIDE",)


def test_public_address_with_keys_and_tls_is_allowed() -> None:
    addresses = {"OUTSIDE": Address("0.0.0.0", 1)}
    for allow_insecure in (False, True):
        assert require_loopback(addresses, allow_insecure, has_keys=True, has_tls=True) == ()
