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
