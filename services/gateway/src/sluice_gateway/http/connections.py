"""How many connections a process keeps, altogether and of one address."""

from __future__ import annotations

import ipaddress
import resource
from collections import Counter
from collections.abc import Sequence
from typing import Final

from sluice_gateway.http.addresses import network_of

CONNECTIONS_OF_ADDRESS: Final = 1_000
"""Many users may share an address."""
_MOST: Final = 65_536
_RESERVED_FILES: Final = 256
"""File descriptors for everything else: databases, brokers, objects, logs."""


class Connections:
    """Counts open connections.

    Connections of trusted proxies and of this machine count in the total alone: they bring those
    of many clients.

    Args:
        most: altogether; None for what the limit of open files allows.
        of_address: of one address; 0 for no limit.
        proxies: addresses or networks of trusted proxies.
    """

    def __init__(
        self,
        most: int | None = None,
        of_address: int = CONNECTIONS_OF_ADDRESS,
        proxies: Sequence[str] = (),
    ) -> None:
        self._most = _allowed_by_files() if most is None else most
        self._of_address = of_address
        self._proxies = [ipaddress.ip_network(each) for each in proxies]
        self._count = 0
        self._held: Counter[str] = Counter()

    def admit(self, host: str) -> bool:
        """Count a connection from an address; return False if there are too many."""
        name = network_of(host)
        if self._count >= self._most:
            return False
        is_limited = self._of_address > 0 and self._held[name] >= self._of_address
        if is_limited and not self._is_exempt(host):
            return False
        self._count += 1
        self._held[name] += 1
        return True

    def release(self, host: str) -> None:
        """Forget a connection that was admitted."""
        name = network_of(host)
        self._count -= 1
        self._held[name] -= 1
        if self._held[name] == 0:
            del self._held[name]

    def _is_exempt(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return address.is_loopback or any(address in each for each in self._proxies)


def _allowed_by_files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return min(_MOST, max(soft - _RESERVED_FILES, soft // 2))
