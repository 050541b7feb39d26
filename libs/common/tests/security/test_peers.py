"""Services by the names in their certificates."""

from __future__ import annotations

import pytest

from sluice_common.security.peers import service_of
from sluice_core.access.principal import ServicePrincipal

PEERS = frozenset({"spiffe://cluster/intake", "intake.sluice.svc"})


@pytest.mark.parametrize(
    ("context", "name"),
    [
        ({"peer_uri": [b"spiffe://cluster/intake"]}, "spiffe://cluster/intake"),
        ({"peer_dns": [b"other", b"intake.sluice.svc"]}, "intake.sluice.svc"),
    ],
)
def test_listed_name_is_a_service(context: dict[str, list[bytes]], name: str) -> None:
    assert service_of(context, PEERS) == ServicePrincipal(name)


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"transport_security_type": [b"ssl"]},
        {"x509_common_name": [b"intake.sluice.svc"]},
        {"x509_subject_alternative_name": [b"intake.sluice.svc"]},
        {"peer_email": [b"intake.sluice.svc"]},
        {"peer_uri": [b"intake.sluice.svc"]},
        {"peer_dns": [b"spiffe://cluster/intake"]},
        {"peer_uri": [b"spiffe://cluster/intake/"]},
        {"peer_uri": [b"SPIFFE://cluster/intake"]},
        {"peer_uri": [b"spiffe://cluster/intake\x00.evil"]},
        {"peer_dns": [b"*.sluice.svc"]},
        {"peer_dns": [b"intake.sluice.svc.evil"]},
        {"peer_dns": [b"\xff"]},
    ],
)
def test_any_other_name_is_no_service(context: dict[str, list[bytes]]) -> None:
    """Nothing but an exact SAN of the entry's kind counts, and never the common name."""
    assert service_of(context, PEERS) is None
