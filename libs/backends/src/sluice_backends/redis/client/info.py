"""What Redis servers say about themselves."""

from __future__ import annotations

from collections.abc import Mapping

from sluice_backends.redis.client.connection import RedisClients

Info = Mapping[str, str]


async def read_info(clients: RedisClients) -> Mapping[str, Info]:
    """INFO of every server that takes writes, by its address."""
    replies = await clients.ask_masters("INFO")
    return {address: _parsed(reply) for address, reply in replies.items()}


def _parsed(text: bytes) -> Info:
    lines = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon and not name.startswith("#")}
