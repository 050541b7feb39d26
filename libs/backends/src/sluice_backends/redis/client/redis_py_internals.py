"""Private names of redis-py that the client needs; its version is bounded for them."""

from __future__ import annotations

import asyncio

from redis._parsers.base import BaseParser
from redis.asyncio.connection import AbstractConnection

__all__ = ["BaseParser", "detach_transport", "transport_of"]


def transport_of(connection: AbstractConnection) -> asyncio.Transport:
    """Return the transport of an open connection, so that another protocol can take it over."""
    transport: asyncio.Transport = connection._writer.transport  # type: ignore[union-attr,assignment]
    return transport


def detach_transport(connection: AbstractConnection) -> None:
    """Drop the closed transport; otherwise the connection warns that it was never closed."""
    connection._writer = connection._reader = None
