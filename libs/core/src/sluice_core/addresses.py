"""Listen addresses: parsing, and whether other machines can reach them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """`HOST:PORT`, or `[HOST]:PORT` for IPv6; port 0 picks a free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address; raise ValueError when the text is not one."""
        host, separator, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        if not separator or not bare or (":" in bare and bare == host):
            raise ValueError("must be HOST:PORT, or [HOST]:PORT for IPv6")
        if not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError("must end in a port from 0 to 65535")
        return cls(bare, int(port))

    def with_port(self, port: int) -> Address:
        return Address(self.host, port)

    @property
    def is_loopback(self) -> bool:
        """True when only this machine can reach it; False for names other than localhost."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
