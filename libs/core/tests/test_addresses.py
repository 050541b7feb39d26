"""Listen addresses: parsing and loopback."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.addresses import Address


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


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "intake.example")),
    ],
)
def test_loopback_is_recognized(host: str, expected: bool) -> None:
    assert Address(host, 1).is_loopback is expected
