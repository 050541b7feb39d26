"""What counts as one address of clients."""

from __future__ import annotations

import ipaddress
from typing import Final

_IPV6_PREFIX: Final = 64
"""One customer gets at least this network, so that its addresses are those of one client."""


def network_of(address: str) -> str:
    """Return what counts as one address: IPv4 whole, of IPv6 the network of a customer."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        network = ipaddress.IPv6Network((found.packed, _IPV6_PREFIX), strict=False)
        return str(network.network_address)
    return str(found)
