"""The identity of what is in Redis: a new one means that it was emptied or replaced (rule 28)."""

from __future__ import annotations

from sluice_backends.redis import keys
from sluice_backends.redis.client.connection import RedisClients
from sluice_core.uploads.ids import new_nonce


async def get_or_create_nonce(clients: RedisClients) -> str:
    """The nonce; of several processes that find none, one makes it for all."""
    # Looked for first: a full Redis refuses SET, even one that would change nothing.
    found = await clients.execute(keys.NONCE, "GET", keys.NONCE, operation="nonce")
    if found is not None:
        return bytes(found).decode()
    _, nonce = await clients.pipeline(
        keys.NONCE,
        [("SET", keys.NONCE, new_nonce(), "NX"), ("GET", keys.NONCE)],
        operation="nonce",
        atomic=True,
    )
    return bytes(nonce).decode()
