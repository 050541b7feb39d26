"""INFO of the Redis servers."""

from __future__ import annotations

from collections.abc import Mapping

from sluice_backends.redis.client.connection import RedisClients

Info = Mapping[str, str]


async def read_info(clients: RedisClients) -> Mapping[str, Info]:
    """Return the INFO of every master, by address."""
    replies = await clients.execute_on_masters("INFO")
    return {address: _parse(reply) for address, reply in replies.items()}


def _parse(text: bytes) -> Info:
    lines = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon and not name.startswith("#")}
