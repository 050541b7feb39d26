"""Services that call this one, by the names in their certificates."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from sluice_core.access.principal import ServicePrincipal

INTERNAL_SERVICES: Final = frozenset({"sluice.repository.v1.ChunkSinkService"})
"""RPC services for other Sluice services only; no token of a user opens them."""

_URI: Final = "peer_uri"
_DNS: Final = "peer_dns"


def service_of(
    auth_context: Mapping[str, Iterable[bytes]], peers: Collection[str]
) -> ServicePrincipal | None:
    """Return the service that a client certificate names; None if no name is on the list.

    A name with a scheme (`spiffe://…`) is compared with the URI SANs, any other with the DNS SANs,
    exactly and without wildcards. The common name counts for nothing: authorities do not verify
    it.

    Args:
        auth_context: of the call, as gRPC gives it.
        peers: names of the services that may call.
    """
    for kind in (_URI, _DNS):
        for raw in auth_context.get(kind, ()):
            name = raw.decode("utf-8", "replace")
            if name in peers and ("://" in name) == (kind == _URI):
                return ServicePrincipal(name)
    return None
