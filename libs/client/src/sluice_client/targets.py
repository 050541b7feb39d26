"""Addresses of servers: what gRPC connects to, whether by TLS, and whether it stays local."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import unquote

from sluice_client.errors import InvalidArgument
from sluice_client.names import is_utf8

_TLS_SCHEMES = frozenset({"https", "grpcs"})
_PLAIN_SCHEMES = frozenset({"http", "grpc"})
_UNIX_SCHEMES = frozenset({"unix", "unix-abstract"})
_GRPC_SCHEMES = frozenset({"dns", "ipv4", "ipv6", "vsock", "xds", *_UNIX_SCHEMES})
_DEFAULT_PORT = 443
"""Of gRPC, for an address without a port."""


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed address of a server.

    Attributes:
        text: the address as it was given.
        address: the same for gRPC.
        is_tls: whether the connection is encrypted and the server verified.
        hosts: host names and IP addresses that it may lead to; none for a Unix socket.
        endpoint: host and port, when it is exactly one.
    """

    text: str
    address: str
    is_tls: bool
    hosts: tuple[str, ...]
    endpoint: tuple[str, int] | None

    @property
    def is_local(self) -> bool:
        """Whether nothing sent there leaves this machine."""
        return all(_is_loopback(host) for host in self.hosts)

    @classmethod
    def parse(cls, text: str) -> Target:
        """Parse `host:port`, `http(s)://host:port`, or a gRPC target such as `unix:/path`.

        Raise InvalidArgument BAD_TARGET.
        """
        if not is_utf8(text):
            raise _bad("The server's address is not UTF-8; give host:port.")
        if not text:
            raise _bad("The server's address is empty; give host:port.")
        before, separator, rest = text.partition("://")
        scheme = before.lower()
        if separator and scheme in _TLS_SCHEMES | _PLAIN_SCHEMES:
            return cls._of_url(text, rest.rstrip("/"), is_tls=scheme in _TLS_SCHEMES)
        if separator and scheme not in _GRPC_SCHEMES:
            raise _bad(f"The scheme {scheme!r} is unknown; give host:port or https://host:port.")
        return cls._of_grpc(text)

    @classmethod
    def _of_url(cls, text: str, address: str, *, is_tls: bool) -> Target:
        if not address:
            raise _bad("The server's address is empty; give host:port.")
        # Neither text repeats the address: what stands before an @ may be a secret.
        if "@" in address:
            raise _bad("The server's address names a user; give host:port and the token apart.")
        if not {"/", "?", "#"}.isdisjoint(address):
            raise _bad("The server's address has a path; give host:port alone.")
        endpoint = _endpoint(address)
        return cls(text, address, is_tls, (endpoint[0],), endpoint)

    @classmethod
    def _of_grpc(cls, text: str) -> Target:
        scheme, separator, rest = text.partition(":")
        if separator and scheme in _UNIX_SCHEMES:
            return cls(text, text, False, (), None)
        if separator and scheme in ("ipv4", "ipv6"):
            endpoints = [_endpoint(unquote(one)) for one in rest.split(",")]
            hosts = tuple(host for host, _ in endpoints)
            return cls(text, text, False, hosts, endpoints[0] if len(endpoints) == 1 else None)
        if separator and scheme == "dns":
            # `dns://SERVER/NAME` asks a name server of its own.
            name = rest.removeprefix("//").partition("/")[2] if rest.startswith("//") else rest
            endpoint = _endpoint(name)
            return cls(text, text, False, (endpoint[0],), endpoint)
        if separator and scheme in _GRPC_SCHEMES and rest.startswith("/"):
            return cls(text, text, False, (text,), None)
        endpoint = _endpoint(text)
        return cls(text, text, False, (endpoint[0],), endpoint)


def _endpoint(address: str) -> tuple[str, int]:
    """Split `host:port`, `[v6]:port` or a bare host."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal() or (":" in host and not host.endswith("]")):
        host, port = address, str(_DEFAULT_PORT)
    return host.removeprefix("[").removesuffix("]"), int(port)


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _bad(text: str) -> InvalidArgument:
    return InvalidArgument("BAD_TARGET", text)
