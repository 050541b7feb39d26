"""The identity of what is in Redis: a new one means that it was emptied or replaced (rule 28)."""

from __future__ import annotations

from sluice_common.coordination.redis import keys
from sluice_common.coordination.redis.connection import RedisClients
from sluice_common.uploads.ids import new_nonce


async def get_or_create_nonce(clients: RedisClients) -> str:
    """The nonce; of several processes that find none, one makes it for all."""
    _, nonce = await clients.pipeline(
        keys.NONCE,
        [("SET", keys.NONCE, new_nonce(), "NX"), ("GET", keys.NONCE)],
        operation="nonce",
        atomic=True,
    )
    return bytes(nonce).decode()
